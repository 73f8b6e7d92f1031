"""What reading one example of a set gives, in worker processes; they need no JAX."""

import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dmlcsr_jax.data import limits as limits_lib
from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.label_sets.sides import left_of
from dmlcsr_jax.errors import UserError

_TASKS_AT_A_TIME = 16


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
    for first, second in label_set.mirror_pairs:
        left = left_of(label_set.classes[first], label_set.classes[second])
        if left is not None:
            is_first = left == label_set.classes[first]
            pairs.append((first, second) if is_first else (second, first))
    return pairs


def findings(
    sources: Mapping[str, Any], label_set: LabelSet, num_workers: int
) -> Iterator[Finding]:
    """Yields what every example of every split gave, in order.

    An example that ends the process that reads it, or does not end, is found too.

    Args:
      sources: split name to source.
      label_set: meaning of the labels.
      num_workers: processes that read; with 0, this one does.
    """
    tasks = [(split, index) for split, source in sources.items() for index in range(len(source))]
    if not num_workers:
        yield from examine_steps(dict(sources), label_set, tasks)
        return
    starts = range(0, len(tasks), _TASKS_AT_A_TIME)
    with (
        concurrent.futures.ThreadPoolExecutor(num_workers) as threads,
        # Closed first, which ends what the threads wait for.
        DecoderPool(limits_lib.DEFAULT, num_workers, (dict(sources), label_set)) as pool,
    ):
        futures = [
            threads.submit(_examine_in_process, pool, tasks[start : start + _TASKS_AT_A_TIME])
            for start in starts
        ]
        try:
            for future in futures:
                yield from future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def examine_steps(
    sources: dict[str, Any], label_set: LabelSet, tasks: Sequence[tuple[str, int]]
) -> Iterator[Finding]:
    """Yields what some examples gave.

    Args:
      sources: split name to source.
      label_set: meaning of the labels.
      tasks: split and index of each example.
    """
    for split, index in tasks:
        yield _examine(sources[split], split, index, label_set)


def _examine_in_process(pool: DecoderPool, tasks: Sequence[tuple[str, int]]) -> list[Finding]:
    found: list[Finding] = []
    while remaining := tasks[len(found) :]:
        try:
            with pool.steps("", examine_steps, remaining) as advance:
                for split, index in remaining:
                    found.append(advance(f"{split} example {index}"))
        except UserError as error:
            # What a source says of an example is in its finding: this is of the process.
            split, index = tasks[len(found)]
            found.append(Finding(split, index, error=str(error)))
    return found
