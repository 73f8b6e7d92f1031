"""Worker processes that read ahead, and end when they are told or their parent ends."""

import atexit
import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import cv2
import grain
from absl import flags

log = logging.getLogger(__name__)


# Batches made ahead of the one in use, in each worker.
_AHEAD = 2


# Larger arrays travel from a worker in shared memory: what goes through its pipe must be so small
# as to lie in there whole, or a worker that is told to end waits for a reader that waits for it.
_MIN_SHARED_BYTES = 2**12


_SHARED_MEMORY = "/dev/shm"


# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1


_M_MMAP_THRESHOLD = -3


class Batches(Iterator[dict[str, Any]]):
    """An iterator over batches and the worker processes that make them.

    The workers end with the iterator: at its last batch, at an error, on `close`, at the end of a
    `with` block, or at the latest when Python ends.
    """

    def __init__(self, iterator: grain.DatasetIterator):
        """Takes over Grain's iterator."""
        self._iterator: grain.DatasetIterator | None = iterator
        _open_batches.add(self)

    def __next__(self) -> dict[str, Any]:
        """Returns the next batch, waiting for it where the workers are not that far."""
        if self._iterator is None:
            raise StopIteration
        try:
            # Workers start in here, and inherit it: clusters that ask a run to save may signal all
            # of its processes, and the main one cannot go on without its workers.
            with _sigterm_held_back():
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
        """Returns itself."""
        return self

    def __exit__(self, *exception):
        """Closes."""
        self.close()


@contextlib.contextmanager
def _sigterm_held_back():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_open_batches: weakref.WeakSet[Batches] = weakref.WeakSet()


@atexit.register
def _close_batches():
    """Ends what is still open before Python takes its modules apart, when Grain no longer can."""
    for batches in list(_open_batches):
        batches.close()


def _iterate(batches: grain.MapDataset, num_workers: int, batch_bytes: int) -> Batches:
    """Returns an iterator over `batches` that works ahead in threads or in processes."""
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
    # Grain reads its settings from absl's flags, which a script without absl never parses.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    # Decoding and warping run without Python's lock; a worker is meant for one core.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_AHEAD)
    dataset = grain.experimental.WithOptionsIterDataset(
        batches.to_iter_dataset(options),
        grain.experimental.DatasetOptions(min_shm_size=_MIN_SHARED_BYTES),
    ).mp_prefetch(
        grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=_AHEAD),
        worker_init_fn=_start_worker,
    )
    return Batches(iter(dataset))


def _shared_memory_holds(num_bytes: int) -> bool:
    """Returns whether there is room: a worker that finds none dies of a bus error."""
    return os.path.isdir(_SHARED_MEMORY) and (
        2 * num_bytes < shutil.disk_usage(_SHARED_MEMORY).free
    )


def _start_worker(worker_index: int, worker_count: int):
    """Makes a worker process keep to its one core and end with the process that started it."""
    del worker_index, worker_count
    cv2.setNumThreads(0)
    # Each example's images go back to the system otherwise, to be mapped and zeroed anew for the
    # next: a quarter of the time.
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_TRIM_THRESHOLD, 2**28)
        mallopt(_M_MMAP_THRESHOLD, 2**25)
    # Ctrl-C reaches the workers too; the main process answers it, and stops them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
