"""No process of a run waits for one that is gone: it stops, and says which.

JAX's own runtime notices too, but ends a process by an abort with a stack trace that names nobody,
and only when the other process has vanished: one that ended with an error keeps the others waiting.
"""

import contextlib
import ctypes
import itertools
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import jax
from jax._src import distributed

from dmlcsr_jax.errors import UserError

# Below JAX's own heartbeat timeout, which would abort first.
_SILENCE_SECONDS = 25.0
_BEAT_SECONDS = 1.0
_ALIVE = "dmlcsr_jax/alive"
_FAILED = "dmlcsr_jax/failed"
_GO_ON = "start the run again to go on from its newest checkpoint"


_leaving = threading.Event()


def _leave(sentence: str, *, linger: bool) -> None:
    """Ends this process without the orderly end, which would wait for the one that is gone.

    Args:
      sentence: printed as an error.
      linger: stays for a few seconds, so that the others read the notes before they lose it.
    """
    _leaving.set()
    sys.stdout.flush()
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    if linger:
        time.sleep(3 * _BEAT_SECONDS)
    os._exit(1)


def _watch(parted: threading.Event) -> None:
    """Says that this process lives, once a second, and looks after the others."""
    state = distributed.global_state
    client, me = state.client, state.process_id
    # Process 0 holds the notes.
    linger = me == 0
    last_beats = {process: ("", time.monotonic()) for process in range(state.num_processes)}
    for beat in itertools.count():
        try:
            client.key_value_set(f"{_ALIVE}/{me}", str(beat), allow_overwrite=True)
            beats = client.key_value_dir_get(_ALIVE)
            failures = client.key_value_dir_get(_FAILED)
        except Exception:
            return  # The notes are gone with process 0; JAX aborts, see `_on_abort`.
        for key, reason in failures:
            process = int(key.rpartition("/")[2])
            if process != me:
                sentence = f"process {process} has failed ({reason}); this one stops: {_GO_ON}."
                _leave(sentence, linger=linger)
        now = time.monotonic()
        for key, value in beats:
            process = int(key.rpartition("/")[2])
            if value != last_beats[process][0]:
                last_beats[process] = value, now
        silent = [
            process for process, (_, since) in last_beats.items() if now - since > _SILENCE_SECONDS
        ]
        if silent:
            names = " and ".join(f"process {process}" for process in silent)
            sentence = f"{names} has died, or its machine; this one stops: {_GO_ON}."
            _leave(sentence, linger=linger)
        if parted.wait(_BEAT_SECONDS):
            return


def _on_abort(_: int) -> None:
    """Says why JAX aborts where it is because process 0, which holds its service, has died."""
    host, _, port = distributed.global_state.coordinator_address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
        return  # It lives; the abort is about something else.
    text = f"error: process 0 has died, or its machine; this one stops: {_GO_ON}.\n"
    os.write(sys.stderr.fileno(), text.encode())
    os._exit(1)


# Python's own handlers run in the main thread between two instructions, too late for an abort.
_ABORT_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)(_on_abort)


def _fail(error: BaseException) -> None:
    """Prints an exception of this process, tells it to the others, and ends this process."""
    sentence = str(error)
    if isinstance(error, KeyboardInterrupt):
        sentence = "interrupted"
    elif not isinstance(error, UserError):
        sentence = f"{type(error).__name__}: {error}"
        if not _leaving.is_set():
            traceback.print_exception(error)
        # A collective fails where the other process is gone, which is then what to say: the
        # watching thread knows it by now, or in half a minute, and ends this process.
        time.sleep(_SILENCE_SECONDS + 3 * _BEAT_SECONDS)
    reason = " ".join(sentence.split())[:500].rstrip(".")
    state = distributed.global_state
    with contextlib.suppress(Exception):
        state.client.key_value_set(f"{_FAILED}/{state.process_id}", reason)
    _leave(sentence, linger=True)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Looks after the other processes while its body runs; does nothing in a lone process.

    Must be entered by all processes after JAX's distributed runtime has started, and ends it: none
    leaves before all do. Where another process vanishes for half a minute or leaves its body by an
    exception, this process ends with status 1 and a sentence that names it. An exception in this
    process's own body is printed (a `UserError` as its sentence), told to the others, and ends this
    process with status 1.
    """
    state = distributed.global_state
    if state.num_processes == 1:
        yield
        return
    if state.process_id != 0:
        libc = ctypes.CDLL(None)
        libc.signal(signal.SIGABRT, _ABORT_HANDLER)
    parted = threading.Event()
    watch = threading.Thread(target=_watch, args=(parted,), name="peers", daemon=True)
    watch.start()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        _fail(error)
    finally:
        # Beats until all are here; a thread inside JAX as Python ends would crash the process.
        jax.distributed.shutdown()
        parted.set()
        watch.join()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
