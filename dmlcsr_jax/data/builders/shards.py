"""Shards of a prepared set, written by all cores, each shard complete or not there."""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import tqdm
from array_record.python import array_record_module
from array_record.python.array_record_data_source import ArrayRecordDataSource

from dmlcsr_jax.data import limits as limits_lib
from dmlcsr_jax.data.builders.examples import Encoding, encode
from dmlcsr_jax.data.builders.records import Record
from dmlcsr_jax.data.builders.tfds_private import serializer
from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.data.features import features
from dmlcsr_jax.data.implausible_labels import require_plausible, sample
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError

# Fixed, so that the files depend on the set alone and not on the machine.
EXAMPLES_PER_SHARD = 500

# Images and labels come compressed; one record a group makes random access cheapest.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_UNFINISHED = ".unfinished"
_BAD_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of a prepared set, to be written.

    Attributes:
      path: the file.
      records: its examples, in order.
      encoding: how their photographs are stored.
    """

    path: pathlib.Path
    records: tuple[Record, ...]
    encoding: Encoding

    @property
    def unfinished(self) -> pathlib.Path:
        """The file until it is complete."""
        return self.path.with_name(self.path.name + _UNFINISHED)


def write_shards(
    shards: Sequence[Shard],
    label_set: LabelSet,
    num_workers: int,
    limits: Limits = limits_lib.DEFAULT,
):
    """Writes the shards that are not there yet, in parallel.

    A shard is written beside its place and renamed when it is complete.
    What a file holds depends on its shard alone, not on the number or the order of the workers.

    Args:
      shards: the shards of all splits, all in one folder.
      label_set: which labels there may be.
      num_workers: number of processes, at least 1.
      limits: what an example may cost.

    Raises:
      UserError: where examples are damaged, which are named once all are read; where one ends the
        process that reads it or takes too long; where the labels are implausible or a file cannot
        be written.
    """
    folder = shards[0].path.parent
    _remove_unfinished(folder)
    missing = [shard for shard in shards if not shard.path.exists()]
    if not missing:
        return
    num_workers = min(num_workers, len(missing))
    total = sum(len(shard.records) for shard in shards)
    num_written = total - sum(len(shard.records) for shard in missing)
    lock = threading.Lock()
    bad: list[str] = []
    with (
        tqdm.tqdm(total=total, initial=num_written, unit="image", desc="Preparing") as bar,
        concurrent.futures.ThreadPoolExecutor(num_workers) as threads,
        DecoderPool(limits, num_workers, (label_set, limits)) as pool,
    ):

        def write(shard: Shard) -> None:
            with pool.steps(str(shard.path), shard_steps, shard) as advance:
                problems = []
                for record in shard.records:
                    problems.append(advance(str(record.image)))
                    with lock:
                        bar.update()
                advance()
            if any(problems):
                bad.extend(filter(None, problems))
                return
            with _naming(shard.path):
                _finish(shard)

        try:
            _check_sample(
                pool, label_set, [record for shard in missing for record in shard.records]
            )
            futures = [threads.submit(write, shard) for shard in missing]
            for future in concurrent.futures.as_completed(futures):
                future.result()
            if bad:
                more = f" ({len(bad)} examples are bad.)" if len(bad) > 1 else ""
                raise UserError(" ".join(sorted(bad)[:_BAD_SHOWN]) + more)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            pool.close()
            threads.shutdown()
            _remove_unfinished(folder)
            raise


def shard_steps(label_set: LabelSet, limits: Limits, shard: Shard) -> Iterator[str]:
    """Writes one shard beside its place, in a process of its own, up to its first bad example.

    Args:
      label_set: which labels there may be.
      limits: what an example may cost.
      shard: the shard.

    Yields:
      What is wrong with each example, "" if nothing is.

    Raises:
      UserError: where the file cannot be written.
    """
    serialize = serializer(features())
    with _naming(shard.path):
        writer = array_record_module.ArrayRecordWriter(str(shard.unfinished), _WRITER_OPTIONS)
    is_good = True
    for record in shard.records:
        try:
            data = serialize(encode(record, shard.encoding, label_set, limits))
        except UserError as error:
            is_good = False
            yield str(error)
            continue
        if is_good:
            with _naming(shard.path):
                writer.write(data)
        yield ""
    with _naming(shard.path):
        writer.close()


def _check_sample(pool: DecoderPool, label_set: LabelSet, records: Sequence[Record]) -> None:
    """Refuses implausible labels before anything is written that would have to be made anew."""
    chosen = [records[index] for index in sample(len(records))]
    try:
        with pool.steps("the labels", count_steps, chosen) as advance:
            counts = sum(advance(str(record.image)) for record in chosen)
    except UserError:
        return  # One that ends its process ends the writing too, which keeps what came before it.
    require_plausible(counts, label_set, f"{len(chosen)} label maps of the set")


def count_steps(
    label_set: LabelSet, limits: Limits, records: Sequence[Record]
) -> Iterator[np.ndarray]:
    """Yields int `[256]` for each example: its label map's pixels of each value, 0 if it is bad."""
    for record in records:
        try:
            label = record.label.read(label_set, limits)
        except UserError:
            label = np.zeros(0, np.uint8)  # It is named with the others, once all are read.
        yield np.bincount(label.ravel(), minlength=256)


def _remove_unfinished(folder: pathlib.Path) -> None:
    for leftover in folder.glob(f"*{_UNFINISHED}"):
        leftover.unlink()


def _finish(shard: Shard):
    """Moves a written shard to its place, once all of it is on the disk."""
    with ArrayRecordDataSource([str(shard.unfinished)]) as source:
        if len(source) != len(shard.records):
            raise OSError(f"{len(source)} of {len(shard.records)} examples arrived")
    with shard.unfinished.open("rb") as file:
        os.fsync(file.fileno())
    shard.unfinished.replace(shard.path)


@contextlib.contextmanager
def _naming(path: pathlib.Path):
    """Turns a failure to write into a sentence that names the file."""
    try:
        yield
    # array_record tells of a full disk by a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{path} cannot be written ({error}); make room on that disk or choose another --out, "
            "then start again."
        ) from error
