"""The mesh: batches split, state replicated or split, sizes that do not fit refused."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.errors import UserError


def test_a_batch_is_split_over_all_devices():
    mesh = sharding.make_mesh()
    assert mesh.size == 8
    batch = {"image": np.arange(16 * 3).reshape(16, 3)}
    placed = sharding.put_batch(batch, mesh)["image"]
    np.testing.assert_array_equal(placed, batch["image"])
    assert [shard.data.shape for shard in placed.addressable_shards] == [(2, 3)] * 8


def test_state_is_replicated_unless_asked():
    mesh = sharding.make_mesh()
    tree = {
        "kernel": jax.ShapeDtypeStruct((3, 3, 64, 128), np.float32),
        "odd": jax.ShapeDtypeStruct((333, 333), np.float32),
        "bias": jax.ShapeDtypeStruct((128,), np.float32),
        "step": jax.ShapeDtypeStruct((), np.int32),
    }
    replicated = sharding.state_sharding(tree, mesh, fsdp=False)
    assert {s.spec for s in replicated.values()} == {PartitionSpec()}
    split = sharding.state_sharding(tree, mesh, fsdp=True)
    assert split["kernel"].spec == PartitionSpec(None, None, None, "data")
    assert split["odd"].spec == split["bias"].spec == split["step"].spec == PartitionSpec()


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UserError, match=r"train\.batch_size is 28.*8 devices"):
        sharding.check_batch_size("train.batch_size", 28, sharding.make_mesh())


def test_the_rows_of_a_split_batch_are_in_order_and_once():
    mesh = sharding.make_mesh()
    rows = np.arange(16 * 3).reshape(16, 3)
    split = sharding.put_batch(rows, mesh)
    np.testing.assert_array_equal(sharding.local_rows(split), rows)
    np.testing.assert_array_equal(sharding.local_rows(jax.device_put(rows)), rows)
    for array in (split, jax.device_put(rows), jax.device_put(rows, sharding.replicated(mesh))):
        np.testing.assert_array_equal(np.stack(sharding.local_row_arrays(array)), rows)
