"""The paper's configs trace, lower and shard at full size, without being compiled."""

import functools
import importlib

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from dmlcsr_jax import checkpointing, inference, optim, sharding, steps
from dmlcsr_jax.metadata import Metadata
from dmlcsr_jax.train_state import TrainState


@pytest.mark.parametrize(
    "name",
    [
        "celebamask_hq",
        pytest.param("helen", marks=pytest.mark.slow),
        pytest.param("lapa", marks=pytest.mark.slow),
    ],
)
def test_full_configs_lower_over_four_devices(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    metadata = Metadata.from_config(config)
    model = inference.build_model(metadata, config.model.dtype)
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    size, batch_size = config.data.image_size, config.train.batch_size

    def schedule(step):
        return 1e-3

    optimizer = optim.optimizer(schedule, config.optim.momentum, config.optim.weight_decay)
    abstract = jax.eval_shape(
        functools.partial(TrainState.create, optimizer=optimizer),
        checkpointing.abstract_variables(metadata, config.model.dtype),
    )
    num_params = sum(leaf.size for leaf in jax.tree.leaves(abstract.params))
    # The specification says 68.54 M for Helen's 11 classes; more classes need a little more.
    assert num_params == pytest.approx(68.54e6, rel=2e-3)

    state_sharding = sharding.state_sharding(abstract, mesh, fsdp=True)
    state = jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s),
        abstract,
        state_sharding,
    )
    split = sharding.batch_sharding(mesh)
    batch = {
        "image": jax.ShapeDtypeStruct((batch_size, size, size, 3), np.uint8, sharding=split),
        "label": jax.ShapeDtypeStruct((batch_size, size, size), np.uint8, sharding=split),
    }
    step = jax.jit(
        functools.partial(
            steps.train_step,
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            metadata=metadata,
            loss_weights={key: config.loss[key] for key in config.loss if key != "edge_width"},
            edge_width=config.loss.edge_width,
            self_regulated=True,
            mesh=mesh,
        ),
        out_shardings=(state_sharding, sharding.replicated(mesh)),
    )
    lowered = step.lower(state, batch)
    next_state, scalars = lowered.out_info
    assert jax.tree.map(lambda leaf: leaf.shape, next_state) == jax.tree.map(
        lambda leaf: leaf.shape, abstract
    )
    assert {leaf.shape for leaf in jax.tree.leaves(scalars)} == {()}
    # A training step of student and teacher is at least four forward passes.
    assert lowered.cost_analysis()["flops"] > 4 * batch_size * 505e9
