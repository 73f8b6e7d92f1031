"""Reads a whole data set once and says what is wrong with it and what is in it."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import tqdm
from etils import epath

from dmlcsr_jax.check_data.report import _BAD_FILES, _print, _warnings, _write
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError


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
