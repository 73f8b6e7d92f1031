"""A Ray cluster: how one is found or started, and what an actor takes of it."""

import contextlib
import logging
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dmlcsr_jax.errors import UserError

if TYPE_CHECKING:
    import pyarrow
    import ray

# In this order an actor takes what there is, unless it is told: all chips of a TPU host, which JAX
# drives from one process; one GPU; all cores of a machine.
_ACCELERATORS = ("TPU", "GPU")
_SECONDS_TO_ANSWER = 10


def require_ray() -> None:
    """Imports Ray.

    Raises:
      UserError: where it is not installed.
    """
    # It reports to its makers that it is started, unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise UserError("--ray needs the extra ray: pip install 'dmlcsr_jax[ray]'.") from error


@contextlib.contextmanager
def connected(address: str) -> Iterator[list[dict[str, float]]]:
    """Connects to a cluster, or starts Ray on this machine, until the `with` block ends.

    Args:
      address: as `ray.init` takes it; "": that of `RAY_ADDRESS`, else this machine's own Ray.

    Yields:
      What each node has, by Ray's names: `CPU`, `GPU`, `TPU`...

    Raises:
      UserError: where nothing answers at the address.
    """
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    address = address or os.environ.get("RAY_ADDRESS", "")
    # What actors print is in Ray's logs; what becomes of photographs comes back with them.
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        options["include_dashboard"] = False
    try:
        _knock(address)
        ray.init(address or "local", **options)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        where = f"at {address}" if address else "on this machine"
        raise UserError(
            f"no Ray cluster answers {where} ({_last_line(error)}); `ray status` tells of one, and "
            "--ray without an address starts Ray on this machine."
        ) from error
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises an OSError where nothing listens at an address: Ray itself waits for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER).close()


def actor_resources(
    asked: Mapping[str, float], nodes: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """Returns what an actor takes, by Ray's names.

    Args:
      asked: of the command line; empty: all TPU chips of a host, else a GPU, else all cores of the
        smallest node. Where it names no `CPU`, there is a fair share of the node's beside it.
      nodes: what each node has.

    Raises:
      UserError: where nothing is asked for and no node has anything.
    """
    found = dict(asked)
    if not found:
        for name in (*_ACCELERATORS, "CPU"):
            if counts := [node[name] for node in nodes if node.get(name, 0) >= 1]:
                found = {name: 1.0 if name == "GPU" else min(counts)}
                break
        else:
            raise UserError(
                "the Ray cluster has no node to work on yet; say what an actor takes and how many "
                "there are to be, as --ray_actor=CPU=8 --ray_actors=4."
            )
    if "CPU" not in found:
        shares = [
            math.floor(node.get("CPU", 0) / count)
            for node in nodes
            if (count := _num_that_fit(found, node))
        ]
        found["CPU"] = float(max(1, min(shares, default=1)))
    return found


def num_actors(
    asked: int | None, actor: Mapping[str, float], nodes: Sequence[Mapping[str, float]]
) -> int:
    """Returns how many actors there are to be: as many as asked for, else as fit.

    Raises:
      UserError: where none fits, and no number is asked for.
    """
    number = asked or sum(_num_that_fit(actor, node) for node in nodes)
    if not number:
        wanted = ", ".join(f"{name}={count:g}" for name, count in actor.items())
        there = "; ".join(
            ", ".join(f"{name}={node[name]:g}" for name in {**actor, "CPU": 0} if node.get(name))
            for node in nodes
        )
        raise UserError(
            f"no node of the Ray cluster has {wanted}, which --ray_actor asks for (they have "
            f"{there or 'nothing'}); ask for less, or give --ray_actors where nodes are still to "
            "come."
        )
    return number


def keep_off_accelerators(actor: Mapping[str, float]) -> dict[str, str]:
    """Has this process, which labels nothing, leave accelerators to the actors.

    Args:
      actor: what one takes.

    Returns:
      The variables by which actors have the devices that they take, and no others.
    """
    if not any(name in actor for name in _ACCELERATORS):
        os.environ["JAX_PLATFORMS"] = "cpu"
        return {"JAX_PLATFORMS": "cpu"}
    import jax

    jax.config.update("jax_platforms", "cpu")
    share = actor.get("GPU", 1)
    # JAX takes three quarters of a GPU's memory, and several actors may share one.
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.75 * share:.3f}"} if share < 1 else {}


def map_in_actors(
    rows: "ray.data.Dataset",
    kind: type,
    arguments: tuple[Any, ...],
    *,
    size: int,
    actor: Mapping[str, float],
    number: int,
    waiting: int,
) -> Iterator["pyarrow.Table"]:
    """Yields what a pool of actors makes of a dataset, part after part, in any order.

    An actor that is killed, or whose node is lost, is started again and gets its parts once more:
    Ray Data does so without limit, of itself.

    Args:
      rows: the dataset.
      kind: a class whose instances are called with parts.
      arguments: that it is made with.
      size: rows in a part.
      actor: what one takes, by Ray's names.
      number: of actors.
      waiting: parts that may wait at one.

    Raises:
      UserError: where actors cannot be started.
    """
    import ray.data

    named = {"num_cpus": actor["CPU"], "num_gpus": actor.get("GPU"), "memory": actor.get("memory")}
    results = rows.map_batches(
        kind,
        fn_constructor_args=arguments,
        batch_size=size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=number, max_tasks_in_flight_per_actor=waiting),
        resources={name: n for name, n in actor.items() if name not in ("CPU", "GPU", "memory")},
        **named,
    )
    try:
        yield from results.iter_batches(batch_size=None, batch_format="pyarrow")
    except ray.exceptions.RayActorError as error:
        raise UserError(
            f"Ray has given up: {_last_line(error)}; what is finished is kept, and the same "
            "command goes on from there."
        ) from error


def _num_that_fit(actor: Mapping[str, float], node: Mapping[str, float]) -> int:
    return math.floor(min(node.get(name, 0) / count for name, count in actor.items()))


def _last_line(error: BaseException) -> str:
    """Returns the last line of what Ray says, in which a traceback has its exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
