"""Shards of a prepared set, written by all cores, each shard complete or not there."""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool

import tqdm
from array_record.python import array_record_module
from array_record.python.array_record_data_source import ArrayRecordDataSource

from dmlcsr_jax.data.builders.examples import Encoding, encode
from dmlcsr_jax.data.builders.records import Record
from dmlcsr_jax.data.builders.tfds_private import serializer
from dmlcsr_jax.data.features import features
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.workers import WorkerPool
from dmlcsr_jax.errors import UserError

# Fixed, so that the files depend on the set alone and not on the machine.
EXAMPLES_PER_SHARD = 500

# Images and labels come compressed; one record a group makes random access cheapest.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_UNFINISHED = ".unfinished"
_SECONDS_BETWEEN_LOOKS = 0.2

# In a worker: how many examples all workers have written, and whether the set is given up.
_written = None
_stop = None


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


def write_shards(shards: Sequence[Shard], label_set: LabelSet, num_workers: int):
    """Writes the shards that are not there yet, in parallel.

    A shard is written beside its place and renamed when it is complete.
    What a file holds depends on its shard alone, not on the number or the order of the workers.

    Args:
      shards: the shards of all splits, all in one folder.
      label_set: which labels there may be.
      num_workers: number of processes, at least 1.

    Raises:
      UserError: where an example is damaged, a file cannot be written, or a worker dies.
    """
    for leftover in shards[0].path.parent.glob(f"*{_UNFINISHED}"):
        leftover.unlink()
    missing = [shard for shard in shards if not shard.path.exists()]
    if not missing:
        return
    total = sum(len(shard.records) for shard in shards)
    context = multiprocessing.get_context("spawn")
    written = context.Value("q", total - sum(len(shard.records) for shard in missing))
    stop = context.Event()
    pool = WorkerPool(min(num_workers, len(missing)), _keep_shared, (written, stop))
    with tqdm.tqdm(total=total, initial=written.value, unit="image", desc="Preparing") as bar:
        try:
            left = {pool.submit(_write_shard, shard, label_set) for shard in missing}
            while left:
                done, left = concurrent.futures.wait(
                    left, _SECONDS_BETWEEN_LOOKS, concurrent.futures.FIRST_EXCEPTION
                )
                bar.update(written.value - bar.n)
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process ended suddenly, perhaps for want of memory; start again with "
                "fewer workers (--num_workers) to go on from the finished shards."
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _keep_shared(written, stop):
    global _written, _stop
    _written, _stop = written, stop


def _write_shard(shard: Shard, label_set: LabelSet):
    """Writes one shard, or leaves nothing of it where the set is given up."""
    serialize = serializer(features())
    unfinished = shard.path.with_name(f"{shard.path.name}.{os.getpid()}{_UNFINISHED}")
    try:
        with _naming(shard.path):
            writer = array_record_module.ArrayRecordWriter(str(unfinished), _WRITER_OPTIONS)
        for record in shard.records:
            if _stop.is_set():
                return
            data = serialize(encode(record, shard.encoding, label_set))
            with _naming(shard.path):
                writer.write(data)
            with _written.get_lock():
                _written.value += 1
        with _naming(shard.path):
            writer.close()
            _finish(unfinished, shard)
    finally:
        unfinished.unlink(missing_ok=True)


def _finish(unfinished: pathlib.Path, shard: Shard):
    """Moves a written shard to its place, once all of it is on the disk."""
    with ArrayRecordDataSource([str(unfinished)]) as source:
        if len(source) != len(shard.records):
            raise OSError(f"{len(source)} of {len(shard.records)} examples arrived")
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(shard.path)


@contextlib.contextmanager
def _naming(path: pathlib.Path):
    """Turns a failure to write into a sentence that names the file."""
    try:
        yield
    # array_record tells of a full disk by a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{path} cannot be written ({error}); make room on that disk or choose another --to, "
            "then start again."
        ) from error
