"""`dmlcsr_jax.load`: the same logits as prediction's, and what JAX programs do with a function."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_checkpoints import METADATA

import dmlcsr_jax
from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.predict.jax_network import JaxNetwork

SIZE, CLASSES = METADATA.image_size, METADATA.label_set.num_classes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "checkpoint"
    blank = np.zeros((1, SIZE, SIZE, 3), np.float32)
    variables = jax.jit(lambda x: build_model(METADATA).init(jax.random.key(0), x, train=True))(
        blank
    )
    model.save_model(path, METADATA, variables["params"], variables["batch_stats"])
    return path


@pytest.fixture(scope="module")
def network(checkpoint):
    return dmlcsr_jax.load(checkpoint)


def images(count, side=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def test_logits_are_those_of_prediction(checkpoint, network):
    batch = images(2)
    logits = network.apply(network.params, batch)
    assert logits.shape == (2, SIZE, SIZE, CLASSES)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()
    assert np.ptp(logits) > 0.01
    options = {"flip": False, "scales": (1.0,), "dtype": "float32"}
    predicted = JaxNetwork(checkpoint, batch_size=2, **options).scores(batch)
    np.testing.assert_allclose(jax.nn.log_softmax(logits), predicted, rtol=1e-4, atol=1e-4)


def test_bytes_and_numbers_are_one_image(network):
    batch = images(2)
    np.testing.assert_allclose(
        network.apply(network.params, batch),
        network.apply(network.params, batch.astype(np.float32)),
        atol=1e-3,
    )


def test_an_image_of_another_size_is_resized_and_its_logits_back(network):
    """A picture of columns of one colour each is enlarged by NumPy's own interpolation."""
    line = np.random.default_rng(1).uniform(0, 255, (2 * SIZE - 1, 3)).astype(np.float32)
    small = line[::2]
    line[1::2] = (small[:-1] + small[1:]) / 2
    wide = np.broadcast_to(line, (2, 2 * SIZE - 1, 2 * SIZE - 1, 3))
    exact = np.broadcast_to(small, (2, SIZE, SIZE, 3))
    logits = network.apply(network.params, wide)
    assert logits.shape == (2, 2 * SIZE - 1, 2 * SIZE - 1, CLASSES)
    expected = network.apply(network.params, exact)
    np.testing.assert_allclose(logits[:, ::2, ::2], expected, rtol=1e-3, atol=1e-3)


def test_gradients_in_the_image_are_those_of_finite_differences(network):
    batch = images(1).astype(np.float32)
    direction = np.random.default_rng(2).standard_normal(batch.shape).astype(np.float32)

    def loss(images):
        return jax.nn.log_softmax(network.apply(network.params, images))[..., 1].mean()

    gradient = jax.jit(jax.grad(loss))(batch)
    step = 0.02
    difference = (loss(batch + step * direction) - loss(batch - step * direction)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), difference, rtol=0.05)


def test_parameters_have_gradients_too(network):
    batch = images(2)

    def loss(params):
        return network.apply({**network.params, "params": params}, batch).mean()

    gradients = jax.jit(jax.grad(loss))(network.params["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_jit_traces_once_and_vmap_is_the_batch(network):
    traces = []

    @jax.jit
    def apply(params, images):
        traces.append(images.shape)
        return network.apply(params, images)

    batch = images(2)
    first = apply(network.params, batch)
    apply(network.params, images(2, seed=1))
    assert len(traces) == 1
    one_by_one = jax.vmap(lambda image: network.apply(network.params, image[None])[0])(batch)
    np.testing.assert_allclose(one_by_one, first, rtol=1e-3, atol=1e-3)


def test_a_batch_may_be_split_over_devices(checkpoint):
    code = """
import sys, jax, numpy as np, dmlcsr_jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
network = dmlcsr_jax.load(sys.argv[1])
batch = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
mesh = Mesh(np.array(jax.devices()), ("data",))
split = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
logits = jax.jit(network.apply)(network.params, split)
assert len(logits.sharding.device_set) == 2 and not logits.is_fully_replicated
np.testing.assert_allclose(logits, network.apply(network.params, batch), rtol=1e-3, atol=1e-3)
"""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, checkpoint], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [({"checkpoint": "nowhere"}, "nowhere"), ({"dtype": "float8"}, "float8")],
)
def test_what_cannot_be_loaded_is_said_in_a_sentence(checkpoint, options, message):
    with pytest.raises(UserError, match=message):
        dmlcsr_jax.load(**{"checkpoint": checkpoint, **options})
