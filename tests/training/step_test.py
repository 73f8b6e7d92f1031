"""Training steps: the paper's configs lower and shard at full size; sharding changes no figure."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.sharding import Mesh

from dmlcsr_jax import models
from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.models import dmlcsr
from dmlcsr_jax.training import optimizer as optimizer_lib
from dmlcsr_jax.training import step as step_lib
from dmlcsr_jax.training.state import TrainState


def schedule(step):
    return 1e-3


class Step:
    """The compiled step of a config over four devices, and what it takes."""

    def __init__(self, config, *, fsdp, self_regulated):
        metadata = Metadata.from_config(config)
        self.model = dmlcsr.build_model(metadata, config.model.dtype)
        self.mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
        optimizer = optimizer_lib.optimizer(
            schedule, config.optim.momentum, config.optim.weight_decay
        )
        self.create = functools.partial(TrainState.create, optimizer=optimizer)
        self.abstract = jax.eval_shape(
            self.create, model.abstract_variables(metadata, config.model.dtype)
        )
        self.sharding = sharding.state_sharding(self.abstract, self.mesh, fsdp=fsdp)
        self.step = jax.jit(
            functools.partial(
                step_lib.train_step,
                model=self.model,
                optimizer=optimizer,
                schedule=schedule,
                metadata=metadata,
                loss_weights=config.loss.weights,
                edge_width=config.loss.edge_width,
                self_regulated=self_regulated,
                mesh=self.mesh,
            ),
            out_shardings=(self.sharding, sharding.replicated(self.mesh)),
        )


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
    size, batch_size = config.data.image_size, config.train.batch_size
    step = Step(config, fsdp=True, self_regulated=True)
    num_params = sum(leaf.size for leaf in jax.tree.leaves(step.abstract.params))
    # The specification says 68.54 M for Helen's 11 classes; more classes need a little more.
    assert num_params == pytest.approx(68.54e6, rel=2e-3)

    state = jax.tree.map(
        lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s),
        step.abstract,
        step.sharding,
    )
    split = sharding.batch_sharding(step.mesh)
    batch = {
        "image": jax.ShapeDtypeStruct((batch_size, size, size, 3), np.uint8, sharding=split),
        "label": jax.ShapeDtypeStruct((batch_size, size, size), np.uint8, sharding=split),
    }
    lowered = step.step.lower(state, batch)
    next_state, scalars = lowered.out_info
    assert jax.tree.map(lambda leaf: leaf.shape, next_state) == jax.tree.map(
        lambda leaf: leaf.shape, step.abstract
    )
    assert {leaf.shape for leaf in jax.tree.leaves(scalars)} == {()}
    # A training step of student and teacher is at least four forward passes.
    assert lowered.cost_analysis()["flops"] > 4 * batch_size * 505e9


def bytes_on(device, state) -> int:
    return sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(state)
        for shard in leaf.addressable_shards
        if shard.device == device
    )


def test_sharded_state_is_a_quarter_on_each_device_and_trains_the_same():
    config = importlib.import_module("configs.synthetic").get_config()
    rng = np.random.default_rng(0)
    batches = [
        {
            "image": rng.integers(0, 256, (8, 32, 32, 3), np.uint8),
            "label": rng.integers(0, 11, (8, 32, 32), np.uint8),
        }
        for _ in range(2)
    ]
    states, losses = {}, {}
    for fsdp in (False, True):
        step = Step(config, fsdp=fsdp, self_regulated=False)
        variables = models.initial_variables(step.model, 0, 32)
        state = jax.jit(step.create, out_shardings=step.sharding)(variables)
        losses[fsdp] = []
        for batch in batches:
            state, scalars = step.step(state, sharding.put_batch(batch, step.mesh))
            losses[fsdp].append({name: float(value) for name, value in scalars.items()})
        states[fsdp] = state
    device = jax.devices()[0]
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(states[False]))
    assert bytes_on(device, states[False]) == total
    assert bytes_on(device, states[True]) < 0.4 * total
    for ours, theirs in zip(losses[True], losses[False], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert jax.tree.structure(states[True]) == jax.tree.structure(states[False])
    for ours, theirs in zip(*map(jax.tree.leaves, (states[True], states[False])), strict=True):
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs) + 1e-6


@pytest.mark.parametrize("self_regulated", [False, True])
def test_weak_views_are_the_averages_or_the_cycles_teachers(self_regulated):
    """A network that is one factor on the image: what the teacher says is known."""

    class Factor:
        def apply(self, variables, images, *, train, edges=None, mutable=None):
            logits = variables["params"]["factor"] * images
            names = ("parsing", "binary_edge", "category_edge")
            outputs = dict.fromkeys(names if train or edges else names[:1], logits)
            outputs |= {"binary_edge": logits[..., :2]} if train or edges else {}
            return (outputs, {"batch_stats": {}}) if mutable else outputs

    rng = np.random.default_rng(0)
    batch = {name: rng.integers(0, 256, (2, 8, 8, 3), np.uint8) for name in ("image", "weak_image")}
    batch["label"] = np.full((2, 8, 8), 255, np.uint8)
    config = importlib.import_module("configs.synthetic").get_config()
    metadata = Metadata.from_config(config)
    optimizer = optimizer_lib.optimizer(schedule, 0.9, 0.0)
    variables = {"params": {"factor": jnp.float32(1.0)}, "batch_stats": {}}
    state = TrainState.create(variables, optimizer, averaged=True)
    state = state.replace(
        average={"params": {"factor": jnp.float32(2.0)}, "batch_stats": {}},
        teacher_params={"factor": jnp.float32(3.0)},
        cycle=jnp.int32(1),
    )
    _, scalars = step_lib.train_step(
        state,
        batch,
        model=Factor(),
        optimizer=optimizer,
        schedule=schedule,
        metadata=metadata,
        loss_weights=dict(config.loss.weights) | {"consistency": 1.0},
        edge_width=1,
        self_regulated=self_regulated,
        average_decay=0.5,
        confidence=0.0,
    )
    image, weak = (
        (batch[name] / 255 - np.array(metadata.mean)) / np.array(metadata.std)
        for name in ("image", "weak_image")
    )
    p = scipy.special.softmax(image, axis=-1)
    q = scipy.special.softmax((3 if self_regulated else 2) * weak, axis=-1)
    expected = scipy.special.rel_entr(q, p).sum(axis=-1).mean()
    assert float(scalars["consistency"]) == pytest.approx(expected, rel=1e-4)


class CountingModel:
    """Counts the passes through a network whose logits are the image's channels."""

    def __init__(self):
        self.passes = []

    def apply(self, variables, images, *, train, edges):
        assert edges
        assert not train
        self.passes.append(variables["name"])
        return {name: images for name in ("parsing", "binary_edge", "category_edge")}


@pytest.mark.parametrize("has_teacher", [False, True])
def test_panels_run_the_teacher_only_where_there_is_one(has_teacher):
    config = importlib.import_module("configs.synthetic").get_config()
    model = CountingModel()
    student, teacher = (
        {"name": name, "params": np.zeros((1,), np.float32)} for name in ("student", "teacher")
    )
    batch = {"image": np.zeros((2, 8, 8, 3), np.uint8), "label": np.ones((2, 8, 8), np.uint8)}
    maps = step_lib.panel_step(
        student,
        teacher if has_teacher else None,
        batch,
        model=model,
        metadata=Metadata.from_config(config),
        edge_width=1,
    )
    assert model.passes == ["student", *["teacher"] * has_teacher]
    assert ("teacher_prediction" in maps) == has_teacher
    assert {leaf.shape for leaf in maps.values()} == {(2, 8, 8)}
