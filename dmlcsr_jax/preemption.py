"""SIGTERM, noticed by every process at the same point of the program."""

import socket

import jax
from jax.experimental import multihost_utils

# JAX aborts where a process is silent for so long; `peers` notices sooner, and says who it is.
_HEARTBEAT_TIMEOUT_SECONDS = 100


class Preempted(Exception):
    """All processes have agreed to stop here and to save."""


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
) -> None:
    """Starts JAX's distributed runtime, also for a lone process: it is what listens to SIGTERM.

    Must run before JAX's first computation.

    Args:
      coordinator_address: HOST:PORT of process 0; None: a lone process, or a cluster to detect.
      num_processes: processes in the run.
      process_id: this process's number, from 0.
      detect_cluster: lets JAX find its cluster (Cloud TPU, GKE, Slurm, Open MPI).
    """
    if detect_cluster:
        jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT_TIMEOUT_SECONDS)
        return
    if coordinator_address is None:
        coordinator_address, num_processes, process_id = f"localhost:{_free_port()}", 1, 0
    jax.distributed.initialize(
        coordinator_address,
        num_processes,
        process_id,
        heartbeat_timeout_seconds=_HEARTBEAT_TIMEOUT_SECONDS,
    )


class PreemptionWatch:
    """Counts the points at which a run may stop; the count is the same in every process."""

    def __init__(self):
        """Starts at point 0."""
        self._point = 0

    def tick(self) -> None:
        """Passes one point.

        Raises:
          Preempted: where a process got SIGTERM and all have agreed on this point.
        """
        self._point += 1
        if multihost_utils.reached_preemption_sync_point(self._point):
            raise Preempted
