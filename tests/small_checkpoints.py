"""A small network with random variables, for tests of checkpoints."""

import jax
import numpy as np
import optax

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.training.state import TrainState

METADATA = Metadata(
    encoder="tiny",
    stem="deep",
    width=0.25,
    image_size=32,
    channel_order="bgr",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    label_set=label_sets.get("helen"),
    edge_branch=True,
)


def random_variables(metadata, seed=0):
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        value = rng.standard_normal(leaf.shape).astype(np.float32)
        return np.abs(value) if model.leaf_name(path).endswith("/var") else value

    return jax.tree_util.tree_map_with_path(draw, model.abstract_variables(metadata))


def save_run(checkpoints, state, progress):
    checkpoints.save_run(
        int(state.step), METADATA, state.eval_variables, state.train_items(), progress
    )


def restore_run(checkpoints, abstract_state, shardings):
    abstract_state = sharding.with_shardings(abstract_state, shardings)
    return TrainState.from_checkpoint(
        *checkpoints.restore_run(abstract_state.eval_variables, abstract_state.train_items())
    )


def make_state(seed, num_updates):
    variables = random_variables(METADATA, seed)
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = TrainState.create(variables, optimizer)
    return state.replace(
        step=np.int32(num_updates),
        cycle=np.int32(1),
        teacher_params=random_variables(METADATA, seed + 1)["params"],
        opt_state=optimizer.update(variables["params"], state.opt_state)[1],
    )


def assert_same(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, tree, expected)
