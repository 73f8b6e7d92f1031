"""Ctrl-C, answered by a thread: Python's own handlers wait as long as the main thread is in JAX.

Nothing is raised: an exception can be lost in a callback of JAX's, or break an import.
"""

import logging
import os
import signal
import threading

log = logging.getLogger(__name__)

EXIT_STATUS = 128 + signal.SIGINT

# Set once a first Ctrl-C has asked for a save.
asked = threading.Event()
_can_save = threading.Event()
_wakeup_fd = -1


def install() -> None:
    """Lets Ctrl-C end this process at once, with status 130 and one line; does so once a process.

    Also where SIGINT was ignored by inheritance, as in a script's background jobs. Must be called
    in the main thread; costs no start of JAX.
    """
    global _wakeup_fd
    if _wakeup_fd >= 0:
        return
    read_fd, _wakeup_fd = os.pipe()
    os.set_blocking(_wakeup_fd, False)
    signal.set_wakeup_fd(_wakeup_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, _handle)
    # Python's resource tracker cleans up after readers that end with this process; not in words.
    warnings = (os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker:UserWarning")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, warnings))
    threading.Thread(target=_answer, args=(read_fd,), name="interrupt", daemon=True).start()


def save_first() -> None:
    """Lets the first Ctrl-C send SIGTERM, at which JAX asks all processes to stop and to save.

    Called once JAX's distributed runtime, which listens to SIGTERM, has started.
    """
    _can_save.set()


def _answer(read_fd: int) -> None:
    while True:
        for number in os.read(read_fd, 1):
            if number == signal.SIGINT:
                _on_interrupt()


def _handle(*_) -> None:
    """Answers in the main thread where an event loop has put its own wakeup descriptor."""
    current = signal.set_wakeup_fd(_wakeup_fd, warn_on_full_buffer=False)
    if current != _wakeup_fd:
        signal.set_wakeup_fd(current)
        _on_interrupt()


def _on_interrupt() -> None:
    if asked.is_set() or not _can_save.is_set():
        # A progress bar may be on the line; the orderly end would wait for what is compiling.
        os.write(2, b"\ninterrupted\n")
        os._exit(EXIT_STATUS)
    asked.set()
    log.warning("interrupted: saving and stopping at the next step; Ctrl-C again ends at once")
    os.kill(os.getpid(), signal.SIGTERM)
