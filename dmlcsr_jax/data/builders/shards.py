"""Shards of a prepared set, written by all cores, each shard complete or not there."""

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence

import tqdm
from array_record.python import array_record_module
from array_record.python.array_record_data_source import ArrayRecordDataSource

from dmlcsr_jax.data import limits as limits_lib
from dmlcsr_jax.data.builders.examples import Encoding, encode, features
from dmlcsr_jax.data.builders.records import Record
from dmlcsr_jax.data.builders.tfds_private import serializer
from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError

# Fixed, so that the files depend on the set alone and not on the machine.
EXAMPLES_PER_SHARD = 500

# Images and labels come compressed; one record a group makes random access cheapest.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_UNFINISHED = ".unfinished"


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
      UserError: where an example is damaged, ends the process that reads it or takes too long, or
        a file cannot be written.
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
    with (
        tqdm.tqdm(total=total, initial=num_written, unit="image", desc="Preparing") as bar,
        concurrent.futures.ThreadPoolExecutor(num_workers) as threads,
        DecoderPool(limits, num_workers, (label_set, limits)) as pool,
    ):

        def write(shard: Shard) -> None:
            with pool.steps(str(shard.path), shard_steps, shard) as advance:
                for record in shard.records:
                    advance(str(record.image))
                    with lock:
                        bar.update()
                advance()
            with _naming(shard.path):
                _finish(shard)

        try:
            futures = [threads.submit(write, shard) for shard in missing]
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            pool.close()
            threads.shutdown()
            _remove_unfinished(folder)
            raise


def shard_steps(label_set: LabelSet, limits: Limits, shard: Shard) -> Iterator[str]:
    """Writes one shard beside its place, in a process of its own, and yields each example's name.

    Args:
      label_set: which labels there may be.
      limits: what an example may cost.
      shard: the shard.

    Raises:
      UserError: where an example is damaged or the file cannot be written.
    """
    serialize = serializer(features())
    with _naming(shard.path):
        writer = array_record_module.ArrayRecordWriter(str(shard.unfinished), _WRITER_OPTIONS)
    for record in shard.records:
        data = serialize(encode(record, shard.encoding, label_set, limits))
        with _naming(shard.path):
            writer.write(data)
        yield record.name
    with _naming(shard.path):
        writer.close()


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
            f"{path} cannot be written ({error}); make room on that disk or choose another --to, "
            "then start again."
        ) from error
