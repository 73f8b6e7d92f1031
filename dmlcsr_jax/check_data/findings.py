"""What reading one example of a set gives, in worker processes; they need no JAX."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.workers import WorkerPool
from dmlcsr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Finding:
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


def _examine(source, split: str, index: int, label_set: LabelSet) -> Finding:
    try:
        example = source[index]
    except UserError as error:
        return Finding(split, index, error=str(error))
    image, label = example["image"], example["label"]
    return Finding(
        split=split,
        index=index,
        name=example["name"],
        sizes=f"{image.shape[1]}x{image.shape[0]} image, {label.shape[1]}x{label.shape[0]} label",
        counts=np.bincount(label.ravel(), minlength=256),
        offsets=_offsets(label, label_set),
        digest=hashlib.blake2b(image, digest_size=16).digest(),
    )


def _offsets(label: np.ndarray, label_set: LabelSet) -> np.ndarray:
    pairs = named_pairs(label_set)
    offsets = np.full(len(pairs), np.nan)
    columns = np.arange(label.shape[1])
    for number, (left, right) in enumerate(pairs):
        places = []
        for value in (left, right):
            weights = np.count_nonzero(label == value, axis=0)
            places.append(weights @ columns / weights.sum() if weights.any() else np.nan)
        offsets[number] = places[1] - places[0]
    return offsets


def named_pairs(label_set: LabelSet) -> list[tuple[int, int]]:
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


def findings(
    sources: Mapping[str, Any], label_set: LabelSet, num_workers: int
) -> Iterator[Finding]:
    """Yields what every example of every split gave, in order.

    Args:
      sources: split name to source.
      label_set: meaning of the labels.
      num_workers: processes that read; with 0, this one does.
    """
    tasks = [(split, index) for split, source in sources.items() for index in range(len(source))]
    if not num_workers:
        for split, index in tasks:
            yield _examine(sources[split], split, index, label_set)
        return
    pool = WorkerPool(num_workers, _keep_arguments, (dict(sources), label_set))
    try:
        yield from pool.map(_examine_in_worker, tasks, chunksize=16)
    finally:
        pool.shutdown(cancel_futures=True)


# The worker process's own copy of the arguments; empty in the main process.
_worker: dict[str, Any] = {}


def _keep_arguments(sources: dict[str, Any], label_set: LabelSet):
    _worker.update(sources=sources, label_set=label_set)


def _examine_in_worker(task: tuple[str, int]) -> Finding:
    split, index = task
    return _examine(_worker["sources"][split], split, index, _worker["label_set"])
