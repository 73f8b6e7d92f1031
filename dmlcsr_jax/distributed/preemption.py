"""SIGTERM or Ctrl-C, noticed by every process at the same point of the program."""

import os
import signal
import socket
import sys
import threading

import jax
from jax.experimental import multihost_utils

from dmlcsr_jax.distributed import interrupt
from dmlcsr_jax.errors import UserError

# JAX waits so long for processes that are not there at the start.
_START_SECONDS = 300
# JAX aborts where a process is silent for so long. `watchdog` notices sooner, and says who it is,
# but for process 0, which holds its notes.
_HEARTBEAT_TIMEOUT_SECONDS = 40
# Nobody waits for a lone process: it may be suspended, by Ctrl-Z or with the machine, and go on.
_LONE_TIMEOUT_SECONDS = 10**9


class Preempted(Exception):
    """All processes have agreed to stop here and to save.

    Its text says why: "preempted" by a SIGTERM or another process, or "interrupted" by Ctrl-C.
    """

    @property
    def exit_status(self) -> int:
        """What a shell expects of a process that the signal has ended: 143, or 130 for Ctrl-C."""
        return interrupt.EXIT_STATUS if interrupt.asked.is_set() else 128 + signal.SIGTERM


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]


def start_distributed(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    detect_cluster: bool = False,
    shutdown_timeout_seconds: int = 300,
) -> None:
    """Starts JAX's distributed runtime, also for a lone process: it is what listens to SIGTERM.

    Where a process is missing, the others end with status 1 and a sentence.

    Must run before JAX's first computation.

    Args:
      coordinator_address: HOST:PORT of process 0; None: a lone process, or a cluster to detect.
      num_processes: processes in the run.
      process_id: this process's number, from 0.
      detect_cluster: lets JAX find its cluster (Cloud TPU, GKE, Slurm, Open MPI).
      shutdown_timeout_seconds: how long a process that is done waits for the others.

    Raises:
      UserError: where there is no cluster to detect.
    """
    if coordinator_address is None and not detect_cluster:
        coordinator_address, num_processes, process_id = f"localhost:{_free_port()}", 1, 0
    timeout = _LONE_TIMEOUT_SECONDS if num_processes == 1 else _HEARTBEAT_TIMEOUT_SECONDS
    # Where one is missing JAX aborts, with a stack trace.
    missing = threading.Timer(_START_SECONDS, _end_for_missing_process, [num_processes])
    missing.start()
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            initialization_timeout=_START_SECONDS + 60,
            heartbeat_timeout_seconds=timeout,
            shutdown_timeout_seconds=shutdown_timeout_seconds,
        )
    except ValueError as error:
        if not detect_cluster:
            raise
        raise UserError(
            f"no cluster was found ({str(error).rstrip('.')}); --distributed is for Cloud TPU, GKE "
            "and Slurm."
        ) from error
    finally:
        missing.cancel()


def _end_for_missing_process(num_processes: int | None) -> None:
    """Ends this process, whose main thread is inside JAX."""
    names = "the processes of this run" if num_processes is None else f"{num_processes} processes"
    sys.stderr.write(
        f"error: not all of {names} were there within {_START_SECONDS} s; start them together, "
        "and see the log of each for why it is not there.\n"
    )
    os._exit(1)


class PreemptionWatch:
    """Counts the points at which a run may stop; the count is the same in every process."""

    def __init__(self):
        self._point = 0

    def tick(self) -> None:
        """Passes one point.

        Raises:
          Preempted: where a process got SIGTERM and all have agreed on this point.
        """
        self._point += 1
        if multihost_utils.reached_preemption_sync_point(self._point):
            raise Preempted("interrupted" if interrupt.asked.is_set() else "preempted")
