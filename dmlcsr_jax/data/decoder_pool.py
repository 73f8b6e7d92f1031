"""Processes that decode untrusted files, where a crash or a hang costs the one file.

Of the libraries' pools, concurrent.futures' is broken by one crash; Pebble's is broken where a
process that is idle is killed, as the system does for want of memory, and takes twice as long to
hand over a photograph of 12 megapixels.
"""

import contextlib
import multiprocessing
import os
import pickle
import queue
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker
from typing import Any

import numpy as np
import PIL.Image

from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.data.workers import num_cores, signals_held_back, start_worker
from dmlcsr_jax.errors import UserError

# Decoders convert: bytes a pixel beside the result, and what the process takes before any file.
_DECODER_BYTES_PER_PIXEL = 24
_PROCESS_BYTES = 2**30
_SECONDS_TO_START = 300
_SECONDS_TO_END = 10


class DecoderPool:
    """Processes that run generators, each step within `limits.seconds`.

    A process that crashes, hangs or wants too much memory is ended and replaced; what it worked on
    fails alone. They import no JAX, and start when they are first needed.

    Attributes:
      limits: seconds of a step, and what the memory of a process is bounded by.
    """

    def __init__(
        self, limits: Limits, num_workers: int | None = None, shared: tuple[Any, ...] = ()
    ):
        """Starts nothing but the process that the others are forked from.

        Args:
          limits: as the attribute.
          num_workers: number of processes; None for one a core.
          shared: what every generator is given first; it is sent once to each process.
        """
        self.limits = limits
        self._shared = shared
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(num_workers or num_cores()):
            self._idle.put(None)
        self._lock = threading.Lock()
        self._workers: set[_Worker] = set()
        self._is_closed = False
        multiprocessing.set_forkserver_preload(["dmlcsr_jax.data.decode_in_worker", __name__])
        # Its start would let the signals through again.
        resource_tracker.ensure_running()
        with signals_held_back(signal.SIGINT):
            forkserver.ensure_running()

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Ends the processes, busy ones too; what they worked on fails."""
        with self._lock:
            self._is_closed = True
            workers = list(self._workers)
        for worker in workers:
            worker.process.kill()

    @contextlib.contextmanager
    def steps(
        self, name: str, function: Callable[..., Iterator[Any]], *args: Any, ahead: bool = False
    ) -> Iterator[Callable[[], Any]]:
        """Runs a generator in a process of its own until the `with` block ends.

        Args:
          name: the file, for errors.
          function: makes the generator; a function of a module that imports no JAX.
          args: its arguments after those that are shared, picklable.
          ahead: makes the next value before it is asked for.

        Yields:
          A function that returns the generator's next value, or None after its last. It may be
          given the name of the file that this step is about. It raises `UserError`, the generator's
          own or one that names the file and says what became of the process.
        """
        worker = self._idle.get()
        try:
            if worker is None or not worker.process.is_alive():
                self._forget(worker)
                worker = None
                worker = self._start()
            start: tuple[Callable[..., Iterator[Any]], tuple[Any, ...]] | None = (function, args)

            def advance(of: str = name) -> Any:
                nonlocal start
                if not worker.is_busy:
                    worker.ask((of, start))
                start = None
                result = self._result_of(worker, of)
                if ahead and result is not None:
                    worker.ask((of, None))
                return result

            yield advance
        finally:
            if worker is not None and worker.is_busy:
                self._forget(worker)
                worker = None
            self._idle.put(worker)

    def _start(self) -> "_Worker":
        worker = _Worker(self.limits, self._shared)
        with self._lock:
            self._workers.add(worker)
            if not self._is_closed:
                return worker
        self._forget(worker)
        raise UserError("the processes that decode have been ended.")

    def _forget(self, worker: "_Worker | None") -> None:
        if worker is not None:
            worker.end()
            with self._lock:
                self._workers.discard(worker)

    def _result_of(self, worker: "_Worker", name: str) -> Any:
        try:
            result, error = worker.answer(self.limits.seconds)
        except TimeoutError as late:
            raise UserError(
                f"{name} was given up after {self.limits.seconds:g} seconds of decoding; leave it "
                "out, or raise the limit (--max_seconds)."
            ) from late
        except (EOFError, OSError) as gone:
            worker.process.join(_SECONDS_TO_END)
            raise UserError(
                f"{name} ended the process that decoded it ({_reason(worker.process.exitcode)}); "
                "it is damaged, or made to do that: leave it out."
            ) from gone
        if error is not None:
            raise error
        return result


class _Worker:
    """One process and the connection to it."""

    def __init__(self, limits: Limits, shared: tuple[Any, ...]):
        context = multiprocessing.get_context("forkserver")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, limits, shared), daemon=True)
        try:
            with signals_held_back(signal.SIGINT, signal.SIGTERM):
                self.process.start()
        # The process that it is forked from was killed; the next one starts that again.
        except (EOFError, OSError) as error:
            self._connection.close()
            raise UserError(
                "the process that starts those that decode files has ended, perhaps for want of "
                "memory; start again."
            ) from error
        finally:
            theirs.close()
        self._poll = select.poll()
        self._poll.register(self._connection.fileno(), select.POLLIN)
        try:
            self._wait(time.monotonic() + _SECONDS_TO_START)
            self._connection.recv()
        except (EOFError, OSError) as error:
            self.end()
            raise RuntimeError(
                "a process that decodes files could not be started; a script that reads files must "
                'do so below `if __name__ == "__main__":`.'
            ) from error
        # Whether it has been asked for what it has not answered.
        self.is_busy = False

    def ask(self, request: tuple[str, Any]) -> None:
        """Has it make the next value, given the file's name, and function and arguments or None."""
        self.is_busy = True
        # Of a process that has died the answer tells.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(request)

    def answer(self, seconds: float) -> tuple[Any, UserError | None]:
        """Returns value and error; raises TimeoutError, EOFError or OSError."""
        deadline = time.monotonic() + seconds
        self._wait(deadline)
        data, sizes = self._connection.recv()
        buffers = [self._read(size, deadline) for size in sizes]
        self.is_busy = False
        return pickle.loads(data, buffers=buffers)

    def _read(self, size: int, deadline: float) -> np.ndarray:
        """Reads what follows a message, without a copy."""
        buffer = np.empty(size, np.uint8)
        view = memoryview(buffer)
        while view:
            self._wait(deadline)
            count = os.readv(self._connection.fileno(), [view])
            if not count:
                raise EOFError
            view = view[count:]
        return buffer

    def _wait(self, deadline: float) -> None:
        milliseconds = 1000 * max(0.0, deadline - time.monotonic())
        if not self._poll.poll(min(milliseconds, 2**31 - 1)):
            raise TimeoutError

    def end(self) -> None:
        self.process.kill()
        self.process.join(_SECONDS_TO_END)
        self._connection.close()


def _reason(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "SIGKILL, perhaps for want of memory"
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit status {exitcode}"


def _serve(connection, limits: Limits, shared: tuple[Any, ...]) -> None:
    """Runs one generator after the other, a step for each request."""
    start_worker()
    _limit_memory(limits)
    # What libraries say of damaged files; the errors name them.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # `decode` checks sizes itself; Pillow would warn below its own limit, and refuse above.
    PIL.Image.MAX_IMAGE_PIXELS = None
    connection.send("ready")
    steps: Iterator[Any] = iter(())
    while True:
        try:
            name, start = connection.recv()
        except EOFError:
            return
        result = error = None
        try:
            if start is not None:
                function, args = start
                steps = function(*shared, *args)
            result = next(steps, None)
        except UserError as exception:
            error = UserError(str(exception))
        # A file is not to end a run, whatever it is that a decoder trips over.
        except Exception as exception:
            reason = " ".join([type(exception).__name__, *str(exception).splitlines()[:1]])
            error = UserError(f"{name} cannot be decoded ({reason}); leave it out.")
        _send(connection, (result, error))
        del result


def _send(connection, message: Any) -> None:
    """Sends a message, its arrays behind it as they lie in memory."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    connection.send((data, [view.nbytes for view in views]))
    for view in views:
        while view:
            view = view[os.write(connection.fileno(), view) :]


def _limit_memory(limits: Limits) -> None:
    """Bounds the memory of this process, so that a file that lies of its size cannot take all."""
    if sys.platform == "linux":
        most = _PROCESS_BYTES + 2 * limits.file_bytes + _DECODER_BYTES_PER_PIXEL * limits.pixels
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
