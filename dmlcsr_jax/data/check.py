"""Reads a whole data set once and says what is wrong with it and what is in it."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import tabulate
import tqdm
from etils import epath

from dmlcsr_jax import atomic_file, pictures
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.transforms import change_source, fit_matrix, warp_image, warp_label
from dmlcsr_jax.errors import UserError

_REPORT = "check_data.json"
_SHEET = "check_data.png"
_BAD_FILES = "bad_files.txt"
_SHEET_EXAMPLES = 24
_SHEET_EXAMPLES_A_ROW = 4
_TILE_SIZE = 160
# Below this share of plausible images a set is said to mix left and right.
_PLAUSIBLE = 0.95
_NAMES_SHOWN = 3


def check_data(
    sources: Mapping[str, Any],
    label_set: LabelSet,
    out_dir: epath.PathLike,
    *,
    official_counts: Mapping[str, int] | None = None,
    num_workers: int = 0,
) -> dict[str, Any]:
    """Reads every example of a set, prints what was found and writes it down.

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

    Returns:
      The report: "label_set" (name); "splits", split to "examples", "official", "bad" (list of
      "index" and "error") and "sizes" ("WxH image, wxh label" to count); "classes", one dict a
      class with "label", "name", "pixels" and "images", each a share by split; "ignored", share of
      pixels by split; "left_right", one dict a pair of mirrored classes with "left", "right",
      "images" (that show both), "plausible" (share, None without images) and "implausible" (names);
      "same_image", lists of "split/name" of identical photographs; "warnings", sentences.

    Raises:
      UserError: at the end, where there are bad examples.
    """
    out_dir = epath.Path(out_dir)
    tallies = {
        split: _Tally(label_set, official=(official_counts or {}).get(split)) for split in sources
    }
    same = collections.defaultdict(list)
    with contextlib.closing(_findings(sources, label_set, num_workers)) as findings:
        total = sum(map(len, sources.values()))
        for finding in tqdm.tqdm(findings, total=total, desc="checking", unit=" images"):
            tallies[finding.split].add(finding)
            if finding.error is None:
                same[finding.digest].append(f"{finding.split}/{finding.name}")
    report = {
        "label_set": label_set.name,
        "splits": {split: tally.summary() for split, tally in tallies.items()},
        "classes": _classes(tallies, label_set),
        "ignored": {split: tally.ignored_share() for split, tally in tallies.items()},
        "left_right": _left_right(tallies, label_set),
        "same_image": [names for names in same.values() if len(names) > 1],
    }
    report["warnings"] = _warnings(report, label_set)
    _print(report)
    _write(report, sources, label_set, out_dir)
    num_bad = sum(len(split["bad"]) for split in report["splits"].values())
    if num_bad:
        raise UserError(
            f"{num_bad} of {total} examples are bad; they are listed in {out_dir / _BAD_FILES}: "
            "mend or replace those files."
        )
    return report


@dataclasses.dataclass(frozen=True)
class _Finding:
    """What reading one example gave; without an error all fields are set."""

    split: str
    index: int
    error: str | None = None
    name: str = ""
    sizes: str = ""
    counts: np.ndarray | None = None
    # x of the right-named part less x of the left-named, for each pair; nan where one is absent.
    offsets: np.ndarray | None = None
    digest: bytes = b""


def _examine(source, split: str, index: int, label_set: LabelSet) -> _Finding:
    try:
        example = source[index]
    except UserError as error:
        return _Finding(split, index, error=str(error))
    image, label = example["image"], example["label"]
    return _Finding(
        split=split,
        index=index,
        name=example["name"],
        sizes=f"{image.shape[1]}x{image.shape[0]} image, {label.shape[1]}x{label.shape[0]} label",
        counts=np.bincount(label.ravel(), minlength=256),
        offsets=_offsets(label, label_set),
        digest=hashlib.blake2b(image, digest_size=16).digest(),
    )


def _offsets(label: np.ndarray, label_set: LabelSet) -> np.ndarray:
    pairs = _named_pairs(label_set)
    offsets = np.full(len(pairs), np.nan)
    columns = np.arange(label.shape[1])
    for number, (left, right) in enumerate(pairs):
        places = []
        for value in (left, right):
            weights = np.count_nonzero(label == value, axis=0)
            places.append(weights @ columns / weights.sum() if weights.any() else np.nan)
        offsets[number] = places[1] - places[0]
    return offsets


def _named_pairs(label_set: LabelSet) -> list[tuple[int, int]]:
    """Returns the mirror pairs whose names say left and right, the left-named label first."""
    pairs = []
    for pair in label_set.mirror_pairs:
        sides = [_side(label_set.classes[label]) for label in pair]
        if sorted(sides) == ["left", "right"]:
            pairs.append(tuple(pair) if sides[0] == "left" else tuple(reversed(pair)))
    return pairs


def _side(name: str) -> str:
    for side in ("left", "right"):
        if side in name.lower() or name.lower().startswith(f"{side[0]}_"):
            return side
    return ""


def _findings(
    sources: Mapping[str, Any], label_set: LabelSet, num_workers: int
) -> Iterator[_Finding]:
    """Yields what every example of every split gave, in order."""
    tasks = [(split, index) for split, source in sources.items() for index in range(len(source))]
    if not num_workers:
        for split, index in tasks:
            yield _examine(sources[split], split, index, label_set)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # A forked process would share JAX's threads and locks.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(dict(sources), label_set),
    )
    try:
        yield from pool.map(_examine_in_worker, tasks, chunksize=16)
    finally:
        pool.shutdown(cancel_futures=True)


# The worker process's own copy of the arguments; empty in the main process.
_worker: dict[str, Any] = {}


def _start_worker(sources: dict[str, Any], label_set: LabelSet):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    _worker.update(sources=sources, label_set=label_set)


def _examine_in_worker(task: tuple[str, int]) -> _Finding:
    split, index = task
    return _examine(_worker["sources"][split], split, index, _worker["label_set"])


class _Tally:
    """Sums over one split."""

    def __init__(self, label_set: LabelSet, official: int | None):
        self.official = official
        self.examples = 0
        self.bad: list[dict[str, Any]] = []
        self.sizes = collections.Counter()
        self.pixels = np.zeros(256, np.int64)
        self.images = np.zeros(256, np.int64)
        self.offsets: list[np.ndarray] = []
        self.names: list[str] = []
        self._ignore_label = label_set.ignore_label

    def add(self, finding: _Finding):
        self.examples += 1
        if finding.error is not None:
            self.bad.append({"index": finding.index, "error": finding.error})
            return
        self.sizes[finding.sizes] += 1
        self.pixels += finding.counts
        self.images += finding.counts > 0
        self.offsets.append(finding.offsets)
        self.names.append(finding.name)

    def summary(self) -> dict[str, Any]:
        return {
            "examples": self.examples,
            "official": self.official,
            "bad": self.bad,
            "sizes": dict(self.sizes.most_common()),
        }

    def pixel_share(self, label: int) -> float:
        """Returns the class's share of the pixels that are not ignored."""
        counted = self.pixels.sum() - self.pixels[self._ignore_label]
        return float(self.pixels[label] / max(counted, 1))

    def image_share(self, label: int) -> float:
        return float(self.images[label] / max(len(self.names), 1))

    def ignored_share(self) -> float:
        return float(self.pixels[self._ignore_label] / max(self.pixels.sum(), 1))


def _classes(tallies: Mapping[str, _Tally], label_set: LabelSet) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "name": name,
            "pixels": {split: tally.pixel_share(label) for split, tally in tallies.items()},
            "images": {split: tally.image_share(label) for split, tally in tallies.items()},
        }
        for label, name in enumerate(label_set.classes)
    ]


def _left_right(tallies: Mapping[str, _Tally], label_set: LabelSet) -> list[dict[str, Any]]:
    """Returns, for each pair, in how many images the left-named part is where it should be."""
    sign = -1 if label_set.left_is == "subject" else 1
    names = [f"{split}/{name}" for split, tally in tallies.items() for name in tally.names]
    pairs = _named_pairs(label_set)
    offsets = [offsets for tally in tallies.values() for offsets in tally.offsets]
    offsets = sign * np.array(offsets).reshape(len(names), len(pairs))
    result = []
    for number, (left, right) in enumerate(pairs):
        shown = ~np.isnan(offsets[:, number])
        wrong = np.flatnonzero(offsets[:, number] <= 0)
        count = int(shown.sum())
        result.append(
            {
                "left": label_set.classes[left],
                "right": label_set.classes[right],
                "images": count,
                "plausible": 1 - len(wrong) / count if count else None,
                "implausible": [names[i] for i in wrong],
            }
        )
    return result


def _warnings(report: dict[str, Any], label_set: LabelSet) -> list[str]:
    warnings = []
    for split, found in report["splits"].items():
        official = found["official"]
        if official is not None and official != found["examples"]:
            warnings.append(
                f"{split} has {found['examples']:,} examples instead of the official {official:,}."
            )
        absent = [c["name"] for c in report["classes"] if not c["images"][split]]
        if absent:
            warnings.append(f"{split} has no pixel of {', '.join(absent)}.")
    side = {"subject": "image-right", "image": "image-left"}.get(label_set.left_is)
    for pair in report["left_right"]:
        share = pair["plausible"]
        if share is None or share >= _PLAUSIBLE:
            continue
        found = (
            f"{pair['left']} lies {side} of {pair['right']} in only {share:.1%} of "
            f"{pair['images']:,} images, though the label set {label_set.name!r} says that left is "
            f"the {label_set.left_is}'s"
        )
        if share < 0.5:
            advice = "left and right are exchanged: correct left_is or the labels"
        else:
            advice = f"some images have them exchanged, such as {_some(pair['implausible'])}"
        warnings.append(f"{found}; {advice}.")
    if label_set.mirror_pairs and len(report["left_right"]) < len(label_set.mirror_pairs):
        warnings.append(
            "left and right could not be checked for the mirror pairs whose names say neither."
        )
    for names in report["same_image"]:
        warnings.append(f"the same photograph stands in the set as {_some(names)}.")
    return warnings


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _print(report: dict[str, Any]):
    splits = report["splits"]
    headers = ["label", "class"]
    headers += [f"{split} {what}" for split in splits for what in ("pixels", "images")]
    rows = [
        [c["label"], c["name"]]
        + [f"{c[what][split]:.2%}" for split in splits for what in ("pixels", "images")]
        for c in report["classes"]
    ]
    ignored = [part for split in splits for part in (f"{report['ignored'][split]:.2%}", "")]
    rows.append(["", "(ignored)", *ignored])
    align = ["right", "left"] + ["right"] * (len(headers) - 2)
    print(tabulate.tabulate(rows, headers, colalign=align, disable_numparse=True))
    print()
    rows = [
        [split, f"{found['examples']:,}", len(found["bad"]), size, f"{count:,}"]
        for split, found in splits.items()
        for size, count in (found["sizes"] or {"": 0}).items()
    ]
    print(tabulate.tabulate(rows, ["split", "examples", "bad", "size", "of this size"]))
    if report["left_right"]:
        rows = [
            [p["left"], p["right"], p["images"], _percent(p["plausible"])]
            for p in report["left_right"]
        ]
        print()
        print(tabulate.tabulate(rows, ["left", "right", "images with both", "plausible"]))
    print()
    for warning in report["warnings"]:
        print(f"warning: {warning}")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _write(
    report: dict[str, Any], sources: Mapping[str, Any], label_set: LabelSet, out_dir: epath.Path
):
    try:
        atomic_file.write_text(out_dir / _REPORT, json.dumps(report, indent=1) + "\n")
        sheet = _contact_sheet(report, sources, label_set)
        if sheet is not None:
            atomic_file.write_bytes(out_dir / _SHEET, pictures.png_bytes(sheet))
        bad = [b["error"] for found in report["splits"].values() for b in found["bad"]]
        if bad:
            atomic_file.write_text(out_dir / _BAD_FILES, "".join(f"{error}\n" for error in bad))
        else:
            # One of an earlier check would be taken for this one's.
            (out_dir / _BAD_FILES).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"the report cannot be written into {out_dir} ({error.strerror or error}); choose "
            "another folder."
        ) from error
    print(f"report: {out_dir / _REPORT}")
    if sheet is not None:
        print(f"contact sheet: {out_dir / _SHEET}")


def _contact_sheet(
    report: dict[str, Any], sources: Mapping[str, Any], label_set: LabelSet
) -> np.ndarray | None:
    """Returns a picture of examples spread over the splits, or None where all are bad."""
    good = []
    for split, source in sources.items():
        bad = {b["index"] for b in report["splits"][split]["bad"]}
        good += [(split, index) for index in range(len(source)) if index not in bad]
    if not good:
        return None
    chosen = np.linspace(0, len(good) - 1, min(_SHEET_EXAMPLES, len(good))).round().astype(int)
    tiles, names = [], []
    for split, index in (good[i] for i in chosen):
        example = sources[split][index]
        image, label = example["image"], example["label"]
        matrix = fit_matrix(image.shape[:2], _TILE_SIZE)
        label_matrix = change_source(matrix, image.shape[:2], label.shape)
        image = warp_image(image, matrix, _TILE_SIZE)
        label = warp_label(label, label_matrix, _TILE_SIZE, label_set.ignore_label)
        tiles += [image, pictures.overlay(image, label, label_set)]
        names.append(f"{split}/{example['name']}")
    blank = np.full((_TILE_SIZE, _TILE_SIZE, 3), 255, np.uint8)
    tiles += [blank] * (-len(tiles) % (2 * _SHEET_EXAMPLES_A_ROW))
    starts = range(0, len(tiles), 2 * _SHEET_EXAMPLES_A_ROW)
    names = [names[start // 2 : start // 2 + _SHEET_EXAMPLES_A_ROW] for start in starts]
    sheet = pictures.grid(
        [tiles[start : start + 2 * _SHEET_EXAMPLES_A_ROW] for start in starts],
        column_titles=["photograph", "labels"] * _SHEET_EXAMPLES_A_ROW,
        row_titles=["  ".join(row) for row in names],
        tile_size=_TILE_SIZE,
    )
    return np.concatenate([sheet, pictures.legend(label_set, sheet.shape[1])])
