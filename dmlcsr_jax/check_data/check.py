"""Reads a complete data set once and says what is wrong with it and what is in it."""

import collections
import contextlib
from collections.abc import Mapping
from typing import Any

import ml_collections
from etils import epath

from dmlcsr_jax.atomic_file import make_folder
from dmlcsr_jax.check_data.findings import findings
from dmlcsr_jax.check_data.report import BAD_FILES, print_report, warnings, write_report
from dmlcsr_jax.check_data.tally import Tally, class_shares, left_right
from dmlcsr_jax.config import validate
from dmlcsr_jax.data import builders
from dmlcsr_jax.data.implausible_labels import require_plausible
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.mixture import open_named, source_label_set
from dmlcsr_jax.data.prepared import PreparedSource
from dmlcsr_jax.data.sources import label_set_of, open_split
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.progress import progress_bar


def check_config_data(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> None:
    """Reads both splits of a config once and reports what is wrong: see `check_data`.

    Args:
      config: its `data`; of `data.sources` those with label maps are read too, each by its labels.
      workdir: the report is written to its `check_data`, a source's to a folder of its name there.

    Raises:
      UserError: where there are bad examples, or the data cannot be opened.
    """
    validate(config)
    label_set = label_set_of(config.data)
    opened = {
        config.data[f"{split}_split"]: open_split(config, split, label_set, check_files=False)
        for split in ("train", "eval")
    }
    official_counts = None
    # Of several sets together nobody states a number.
    if isinstance(first := next(iter(opened.values())), PreparedSource):
        builder = builders.BUILDERS.get(str(first.summary.get("dataset")))
        official_counts = builder.official_counts if builder else None
    out = epath.Path(workdir) / "check_data"
    num_workers = config.data.num_workers
    check_data(opened, label_set, out, official_counts=official_counts, num_workers=num_workers)
    for name, data in sorted(config.data.sources.items()):
        if data.kind in ("folder", "prepared"):
            source = open_named(data, label_set, config.seed, check_files=False)
            own = source_label_set(data, label_set)
            check_data(
                *({data.split: source}, own, out / name),
                num_workers=num_workers,
                may_lack_classes=True,
            )


def check_data(
    sources: Mapping[str, Any],
    label_set: LabelSet,
    out_dir: epath.PathLike,
    *,
    official_counts: Mapping[str, int] | None = None,
    num_workers: int = 0,
    may_lack_classes: bool = False,
) -> dict[str, Any]:
    """Reads every example of a set, prints what was found and writes a report.

    Into `out_dir` go `check_data.json`, the report that is returned; `check_data.png`, a contact
    sheet of photographs and their labels to look at; and, where there are any, `bad_files.txt` with
    one sentence for every bad example.

    Args:
      sources: split name to source, see `sources`; opened with `check_files=False`, a folder's
        absent files are found here, all of them.
      label_set: meaning of the labels.
      out_dir: folder for what is written; made where it does not exist.
      official_counts: split name to the number of examples that the set's authors state.
      num_workers: processes that read; with 0, this one does.
      may_lack_classes: whether a set may show a single class, as photographs without a face do.

    Returns:
      The report: "label_set" (name); "splits", split to "examples", "official", "bad" (list of
      "index" and "error") and "sizes" ("WxH image, wxh label" to count); "classes", one dict a
      class with "label", "name", "pixels" and "images", each a share by split; "ignored", share of
      pixels by split; "left_right", one dict a pair of mirrored classes with "left", "right",
      "images" (that show both), "plausible" (share, None without images) and "implausible" (names);
      "same_image", lists of "split/name" of identical photographs; "warnings", sentences.

    Raises:
      UserError: where the folder cannot be made; at the end, where examples are bad or labels
        implausible.
    """
    out_dir = epath.Path(out_dir)
    make_folder(out_dir)  # Before the work, not after it.
    tallies = {
        split: Tally(label_set, official=(official_counts or {}).get(split)) for split in sources
    }
    same = collections.defaultdict(list)
    total = sum(map(len, sources.values()))
    with (
        contextlib.closing(findings(sources, label_set, num_workers)) as found,
        progress_bar(total, unit="image", description="check") as bar,
    ):
        for finding in found:
            tallies[finding.split].add(finding)
            if finding.error is None:
                same[finding.digest].append(f"{finding.split}/{finding.name}")
            bar.update()
    report = {
        "label_set": label_set.name,
        "splits": {split: tally.summary() for split, tally in tallies.items()},
        "classes": class_shares(tallies, label_set),
        "ignored": {split: tally.ignored_share() for split, tally in tallies.items()},
        "left_right": left_right(tallies, label_set),
        "same_image": [names for names in same.values() if len(names) > 1],
    }
    report["warnings"] = warnings(report, label_set)
    print_report(report)
    write_report(report, sources, label_set, out_dir)
    num_bad = sum(len(split["bad"]) for split in report["splits"].values())
    if num_bad:
        raise UserError(
            f"{num_bad} of {total} examples are bad; they are listed in {out_dir / BAD_FILES}: "
            "fix or replace those files."
        )
    if not may_lack_classes:
        for split, tally in tallies.items():
            require_plausible(tally.pixels, label_set, f"the label maps of {split}")
    return report
