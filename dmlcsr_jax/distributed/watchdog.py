"""No process of a run waits for one that is gone: it stops, and says which.

JAX's own runtime notices too, but ends a process by an abort with a stack trace that names nobody,
and only when the other process has vanished: one that ended with an error keeps the others waiting.
"""

import contextlib
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

from dmlcsr_jax.distributed import abort, jax_private
from dmlcsr_jax.errors import sentence_of

# Below JAX's own heartbeat timeout, which would abort first.
_SILENCE_SECONDS = 25.0
_BEAT_SECONDS = 1.0
_BARRIER_MILLISECONDS = 60_000
_ALIVE = "dmlcsr_jax/alive"
_FAILED = "dmlcsr_jax/failed"
_GO_ON = "start it again to go on from what is saved"


# When process 0, which holds the notes, last answered; by `time.monotonic`.
_answered_at = 0.0
# Held by the thread that ends this process: one reason is enough.
_leaving = threading.Lock()


def _say(sentence: str) -> None:
    """Prints why this process ends; a thread that comes second stays in here."""
    _leaving.acquire()
    sys.stdout.flush()
    # The line may hold a progress bar.
    print(f"\nerror: {sentence}", file=sys.stderr, flush=True)


def _leave() -> None:
    """Ends this process without the orderly end, which would wait for the one that is gone."""
    # The others read the notes first: their collectives fail as soon as this process is gone.
    time.sleep(3 * _BEAT_SECONDS)
    os._exit(1)


def _watch(finished: threading.Event) -> None:
    """Says that this process lives, once a second, and looks after the others."""
    global _answered_at
    me = jax_private.process_id()
    now = _answered_at = time.monotonic()
    last_beats = {process: ("", now) for process in range(jax_private.num_processes())}
    for beat in itertools.count():
        before, now = now, time.monotonic()
        if now - before > _SILENCE_SECONDS / 3:
            # This process itself was suspended: the others have had no chance to be heard.
            last_beats = {process: (value, now) for process, (value, _) in last_beats.items()}
        try:
            jax_private.set_value(f"{_ALIVE}/{me}", str(beat))
            beats = jax_private.values_below(_ALIVE)
            failures = jax_private.values_below(_FAILED)
            _answered_at = now
        except Exception:
            # A moment without network; or process 0 is gone for good: see `_watch_process_0`.
            beats = failures = []
        for key, reason in failures:
            process = int(key.rpartition("/")[2])
            if process != me:
                _say(f"process {process} has failed ({reason}); this one stops: {_GO_ON}.")
                _leave()
        for key, value in beats:
            process = int(key.rpartition("/")[2])
            if value != last_beats[process][0]:
                last_beats[process] = value, now
        silent = [
            process for process, (_, since) in last_beats.items() if now - since > _SILENCE_SECONDS
        ]
        if silent:
            names = " and ".join(f"process {process}" for process in silent)
            _say(f"{names} has died, or its machine; this one stops: {_GO_ON}.")
            _leave()
        if finished.wait(_BEAT_SECONDS):
            return


def _watch_process_0(finished: threading.Event) -> None:
    """Ends this process where process 0 is gone, which holds the notes, and where it aborts.

    JAX aborts when it notices that process 0 is gone, and may keep the other thread waiting for an
    answer until then.
    """
    global _answered_at
    now = time.monotonic()
    while not finished.wait(_BEAT_SECONDS):
        before, now = now, time.monotonic()
        if now - before > _SILENCE_SECONDS / 3:
            _answered_at = now  # As in `_watch`.
        is_aborting = abort.has_come()
        silent = now - _answered_at
        is_gone = silent > _SILENCE_SECONDS
        if is_aborting or silent > max(2 * _BEAT_SECONDS, 1.0):
            is_gone |= _service_is_gone()
        if is_gone:
            _say(f"process 0 has died, or its machine; this one stops: {_GO_ON}.")
            os._exit(1)
        if is_aborting and not _leaving.locked():
            abort.end()


def _service_is_gone() -> bool:
    """Returns whether nobody listens where process 0 did."""
    if not jax_private.is_connected():
        return False
    host, _, port = jax_private.coordinator_address().rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def barrier(name: str) -> None:
    """Waits until all processes are here, or for a minute where one does not come.

    Args:
      name: of this barrier; each name serves once in a run.
    """
    if jax_private.num_processes() > 1:
        with contextlib.suppress(Exception):
            jax_private.wait_at_barrier(name, _BARRIER_MILLISECONDS)


def fail(error: BaseException) -> None:
    """Prints an exception of this process, tells it to the others, and ends all with status 1."""
    sentence = "interrupted" if isinstance(error, KeyboardInterrupt) else sentence_of(error)
    if sentence is None:
        sentence = f"{type(error).__name__}: {error}"
        if not _leaving.locked():
            traceback.print_exception(error)
        # A collective fails where the other process is gone, which is then what to say: the
        # watching thread knows it by now, or in half a minute, and ends this process.
        time.sleep(_SILENCE_SECONDS + 3 * _BEAT_SECONDS)
    _say(sentence)
    reason = " ".join(sentence.split())[:500].rstrip(".")
    with contextlib.suppress(Exception):
        jax_private.set_value(f"{_FAILED}/{jax_private.process_id()}", reason)
    _leave()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Looks after the other processes while its body runs; does nothing in a lone process.

    Must be entered by all processes after JAX's distributed runtime has started, and ends it: none
    leaves before all do. Where another process vanishes for half a minute or leaves its body by an
    exception, this process ends with status 1 and a sentence that names it. An exception in this
    process's own body is printed (a `UserError` as its sentence), told to the others, and ends this
    process with status 1.
    """
    if jax_private.num_processes() == 1:
        yield
        return
    finished = threading.Event()
    targets = [_watch]
    if jax_private.process_id() != 0:
        abort.hold_back()
        targets.append(_watch_process_0)
    watches = [
        threading.Thread(target=target, args=(finished,), name="watchdog", daemon=True)
        for target in targets
    ]
    for watch in watches:
        watch.start()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        fail(error)
    finally:
        # Beats until all are here; a thread inside JAX as Python ends would crash the process.
        jax.distributed.shutdown()
        finished.set()
        for watch in watches:
            watch.join()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
