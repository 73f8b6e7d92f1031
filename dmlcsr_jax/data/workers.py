"""Worker processes: how every pool of this package starts, and ends with its parent."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator

import cv2

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def num_cores() -> int:
    """Returns the number of cores that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_worker() -> None:
    """Makes a new worker process keep to its one core and end with the process that started it."""
    cv2.setNumThreads(0)
    # Each example's images go back to the system otherwise, to be mapped and zeroed anew for the
    # next: a quarter of the time.
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_TRIM_THRESHOLD, 2**28)
        mallopt(_M_MMAP_THRESHOLD, 2**25)
    # Ctrl-C reaches the workers too; the main process answers it, and stops them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, be it killed, so that none works on unseen."""
    multiprocessing.parent_process().join()
    os._exit(1)


@contextlib.contextmanager
def signals_held_back(*signals: signal.Signals) -> Iterator[None]:
    """Blocks signals of this thread for a while; worker processes that start meanwhile keep it so.

    A worker is interrupted while it still imports otherwise, before `start_worker` runs.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
