"""What this package uses of JAX's private modules: the key-value store of its runtime.

`jax.distributed` shows the runtime's start and end alone; what lies between is in `jax._src`.
"""

from jax._src import distributed


def process_id() -> int:
    """Returns this process's number, from 0, without starting a backend."""
    return distributed.global_state.process_id


def num_processes() -> int:
    """Returns how many processes the runtime was started with, without starting a backend."""
    return distributed.global_state.num_processes


def is_connected() -> bool:
    """Returns whether the runtime has been started and not yet ended."""
    return distributed.global_state.client is not None


def coordinator_address() -> str:
    """Returns HOST:PORT of process 0's service."""
    return distributed.global_state.coordinator_address


def set_value(key: str, value: str) -> None:
    """Stores a value that every process can read, in the place of an earlier one of the key."""
    distributed.global_state.client.key_value_set(key, value, allow_overwrite=True)


def values_below(folder: str) -> list[tuple[str, str]]:
    """Returns key and value of all that is stored under keys that begin with `folder/`."""
    return distributed.global_state.client.key_value_dir_get(folder)


def wait_at_barrier(name: str, milliseconds: int) -> None:
    """Waits until all processes are at the barrier of that name, which serves once.

    Raises:
      Exception: JAX's own, where one does not come in time.
    """
    distributed.global_state.client.wait_at_barrier(name, milliseconds)
