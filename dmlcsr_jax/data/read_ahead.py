"""Iterators that make batches ahead of their use, in threads or in worker processes."""

import atexit
import gc
import logging
import os
import shutil
import signal
import weakref
from collections.abc import Iterator
from typing import Any

import grain

from dmlcsr_jax.data.grain_private import iterate_in_processes
from dmlcsr_jax.data.workers import signals_held_back, start_worker

log = logging.getLogger(__name__)

# Batches made ahead of the one in use, in each worker.
_AHEAD = 2
# Larger arrays travel from a worker in shared memory: what goes through its pipe must be so small
# as to fit in there, or a worker that is told to end waits for a reader that waits for it.
_MIN_SHARED_BYTES = 2**12
_SHARED_MEMORY = "/dev/shm"


class Batches(Iterator[dict[str, Any]]):
    """An iterator over batches and the worker processes that make them.

    The workers end with the iterator: at its last batch, at an error, on `close`, at the end of a
    `with` block, or at the latest when Python ends.
    """

    def __init__(self, iterator: grain.DatasetIterator):
        self._iterator: grain.DatasetIterator | None = iterator
        _open_batches.add(self)

    def __next__(self) -> dict[str, Any]:
        """Returns the next batch, waiting for it where the workers are not that far."""
        if self._iterator is None:
            raise StopIteration
        try:
            # Workers start in here: clusters that ask a run to save may signal all of its
            # processes, as Ctrl-C does, and the main one cannot go on without its workers.
            with signals_held_back(signal.SIGINT, signal.SIGTERM):
                return next(self._iterator)
        except BaseException:
            self.close()
            raise

    def close(self):
        """Ends the workers; there are no further batches then."""
        if self._iterator is not None:
            iterator, self._iterator = self._iterator, None
            iterator.close()
            del iterator
            # Grain's iterators are cycles that hold the batches made ahead: shared memory.
            gc.collect()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exception):
        self.close()


_open_batches: weakref.WeakSet[Batches] = weakref.WeakSet()


@atexit.register
def _close_batches():
    """Ends what is still open before Python takes its modules apart, when Grain no longer can."""
    for batches in list(_open_batches):
        batches.close()


def read_ahead(batches: grain.MapDataset, num_workers: int, batch_bytes: int) -> Batches:
    """Returns an iterator over `batches` that works ahead.

    Args:
      batches: the batches, each a dict.
      num_workers: worker processes; with 0, two threads of this process work ahead.
      batch_bytes: about the size of a batch, to know whether shared memory holds them.
    """
    num_threads = _AHEAD
    if num_workers and not _shared_memory_holds(num_workers * (_AHEAD + 2) * batch_bytes):
        log.warning(
            "reading in %d threads instead of as many processes, which is slower: %s has no room "
            "for their batches (in Docker, give more by --shm-size)",
            num_workers,
            _SHARED_MEMORY,
        )
        num_threads, num_workers = max(num_workers, _AHEAD), 0
    if not num_workers:
        options = grain.ReadOptions(num_threads, prefetch_buffer_size=num_threads)
        return Batches(iter(batches.to_iter_dataset(options)))
    return Batches(
        iterate_in_processes(
            batches,
            num_workers=num_workers,
            batches_ahead=_AHEAD,
            min_shared_bytes=_MIN_SHARED_BYTES,
            start_worker=start_worker,
        )
    )


def _shared_memory_holds(num_bytes: int) -> bool:
    """Returns whether there is room: a worker that finds none dies of a bus error."""
    return os.path.isdir(_SHARED_MEMORY) and (
        2 * num_bytes < shutil.disk_usage(_SHARED_MEMORY).free
    )
