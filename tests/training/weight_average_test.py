"""The exponential average of weights: its numbers, in a step, and over a checkpoint."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from dmlcsr_jax.configs import default
from small_checkpoints import METADATA, random_variables, restore_run, save_run

from dmlcsr_jax.checkpoints.run import RunCheckpoints
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.models import build_model
from dmlcsr_jax.training.state import TrainState, update_average
from dmlcsr_jax.training.step import train_step

CREATE = functools.partial(TrainState.create, optimizer=optax.sgd(0.1), averaged=True)


def test_the_decay_grows_to_its_limit():
    old, new = {"a": jnp.zeros(())}, {"a": jnp.ones(())}
    for step, share in ((0, 0.9), (8, 0.5), (10**6, 0.01)):
        mixed = update_average(old, new, 0.99, jnp.asarray(step))["a"]
        np.testing.assert_allclose(mixed, share, rtol=1e-5)


def test_a_step_averages_parameters_and_statistics():
    metadata = METADATA
    state = CREATE(random_variables(metadata)).replace(step=jnp.asarray(3, jnp.int32))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (2, 32, 32, 3), np.uint8),
        "label": rng.integers(0, 11, (2, 32, 32), np.uint8),
    }
    step = functools.partial(
        train_step,
        model=build_model(metadata),
        optimizer=optax.sgd(0.1),
        schedule=lambda step: 0.1,
        metadata=metadata,
        loss_weights=default.get_config().loss.weights,
        edge_width=1,
        self_regulated=False,
        loss_resolution=0.5,
        ema_decay=0.9,
    )
    after, _ = jax.jit(step)(state, batch)
    trained = {"params": after.params, "batch_stats": after.batch_stats}
    share = 4 / 13
    expected = jax.tree.map(lambda a, b: share * a + (1 - share) * b, state.average, trained)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        after.eval_variables,
        expected,
    )


def test_a_checkpoint_holds_the_average_as_its_model_and_gives_back_both(tmp_path):
    state = CREATE(random_variables(METADATA))
    state = state.replace(average=random_variables(METADATA, seed=1))
    checkpoints = RunCheckpoints(tmp_path, keep=2)
    save_run(checkpoints, state, {})
    checkpoints.wait()
    mesh = sharding.make_mesh()
    abstract = jax.eval_shape(CREATE, random_variables(METADATA))
    shardings = sharding.state_sharding(abstract, mesh, fsdp=False)
    restored = restore_run(checkpoints, abstract, shardings)
    checkpoints.close()
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    jax.tree.map(np.testing.assert_array_equal, restored.eval_variables, state.average)
