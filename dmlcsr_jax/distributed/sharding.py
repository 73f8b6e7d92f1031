"""The device mesh: batches are split over it; state is replicated or, on request, split too."""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dmlcsr_jax.errors import UserError

# Arrays below this many elements are not split: splitting them costs more traffic than it saves.
_MIN_SPLIT_SIZE = 2**14


def make_mesh() -> Mesh:
    """Returns a mesh of all devices of all processes along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def check_batch_size(name: str, batch_size: int, mesh: Mesh) -> None:
    """Refuses a global batch that the mesh's devices cannot share equally.

    Raises:
      UserError: names the config field, its value and the number of devices.
    """
    if batch_size % mesh.size:
        raise UserError(
            f"config.{name} is {batch_size}; it must be a multiple of the {mesh.size} devices."
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds completely."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array whose leading axis is split over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def state_sharding(abstract_state, mesh: Mesh, *, fsdp: bool):
    """Returns a tree of shardings for a state.

    Args:
      abstract_state: tree of arrays or `jax.ShapeDtypeStruct`.
      mesh: the device mesh.
      fsdp: splits each large array along its longest axis that the devices divide; else every
        array is replicated.
    """

    def leaf_sharding(leaf):
        divisible = [axis for axis, size in enumerate(leaf.shape) if size % mesh.size == 0]
        if not fsdp or not divisible or np.prod(leaf.shape) < _MIN_SPLIT_SIZE:
            return replicated(mesh)
        axis = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))

    return jax.tree.map(leaf_sharding, abstract_state)


def with_shardings(abstract_state, shardings):
    """Returns a tree of `jax.ShapeDtypeStruct` that also says where each array is to be placed.

    Args:
      abstract_state: tree of `jax.ShapeDtypeStruct`.
      shardings: as `state_sharding` returns them for it.
    """
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract_state,
        shardings,
    )


def put_batch(batch, mesh: Mesh):
    """Places each process's part of a batch on its devices, as one global array.

    Args:
      batch: tree of numpy arrays `[local batch, ...]`.
      mesh: the device mesh.

    Returns:
      The same tree of global `jax.Array`s `[global batch, ...]`, split over `data`.
    """
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def local_rows(array: jax.Array) -> np.ndarray:
    """Returns the rows of a batch that this process holds, in order.

    Args:
      array: `[global batch, ...]`, on one device or split over its first axis.

    Returns:
      `[local batch, ...]`, the rows this process put into the batch.
    """
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.concatenate([np.asarray(piece) for piece in _local_pieces(array)])


def local_row_arrays(array: jax.Array) -> list[jax.Array]:
    """Returns the same rows one by one, each on the device where it lies.

    Args:
      array: as `local_rows` takes it.
    """
    return [row for piece in _local_pieces(array) for row in piece]


def _local_pieces(array: jax.Array) -> list[jax.Array]:
    """Returns the parts of a batch on this process's devices, in order and each once."""
    by_start = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return [by_start[start] for start in sorted(by_start)]


def complete_array(array) -> np.ndarray:
    """Returns all of an array on the host.

    Args:
      array: a NumPy array or a `jax.Array`; of one that is split over processes, all of them must
        ask, in the same order.
    """
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    if array.is_fully_replicated:
        return np.asarray(array.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
