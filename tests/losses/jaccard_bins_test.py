"""The binned Lovász loss against the exact one; its counts on CPUs, accelerators and meshes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.losses import jaccard_bins, lovasz


def _draw(seed, gain, shape=(8, 32, 32), classes=7):
    """Classes from half of the pixels to a few, right with `gain`; one absent, some ignored."""
    rng = np.random.default_rng(seed)
    share = 0.4 ** np.arange(classes - 1)
    label = rng.choice(classes - 1, size=shape, p=share / share.sum())
    sure = 2 * rng.random((*shape, 1))
    logits = rng.normal(scale=2, size=(*shape, classes)) + gain * sure * np.eye(classes)[label]
    label[rng.random(shape) < 0.1] = 255
    return jnp.asarray(logits, jnp.float32), jnp.asarray(label, jnp.int32)


@functools.partial(jax.jit, static_argnames=("form", "mesh"))
def _value_and_gradient(logits, label, form, mesh=None):
    loss = functools.partial(lovasz.lovasz_softmax, form=form, mesh=mesh)
    return jax.value_and_grad(loss)(logits, label)


@pytest.mark.parametrize("gain", [0, 4, 10])
def test_binned_is_close_to_exact(gain):
    logits, label = _draw(gain, gain)
    exact, expected = _value_and_gradient(logits, label, "exact")
    value, gradient = _value_and_gradient(logits, label, "binned")
    assert float(value) == pytest.approx(float(exact), rel=1e-5)
    expected, gradient = np.float64(expected).ravel(), np.float64(gradient).ravel()
    cosine = expected @ gradient / np.linalg.norm(expected) / np.linalg.norm(gradient)
    assert cosine > 0.999
    assert np.linalg.norm(gradient) == pytest.approx(np.linalg.norm(expected), rel=1e-3)
    np.testing.assert_array_equal(gradient.reshape(logits.shape)[np.asarray(label) == 255], 0)


def test_binned_of_certain_predictions_is_exact():
    """All errors are 0 or 1: no order inside a bin is unknown that could change the loss."""
    logits, label = _draw(3, 3)
    exact, _ = _value_and_gradient(1e4 * logits, label, "exact")
    value, _ = _value_and_gradient(1e4 * logits, label, "binned")
    assert float(value) == pytest.approx(float(exact), rel=1e-6)


def test_nothing_valid_is_0():
    logits, label = _draw(4, 1)
    value, gradient = _value_and_gradient(logits, jnp.full_like(label, 255), "binned")
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_steps_of_a_class_lead_from_no_loss_to_all_of_it():
    rng = np.random.default_rng(5)
    errors = jnp.asarray(rng.random((3, 4000)) ** 3, jnp.float32)
    is_class = jnp.asarray(rng.random((3, 4000)) < [[0.3], [0.0], [0.001]])
    steps = jax.jit(jaccard_bins.binned_steps)(errors, is_class, jnp.ones((1, 4000), bool))
    np.testing.assert_allclose(steps.sum(1), [1, 0, 1], rtol=1e-5)


def test_products_count_and_look_up_as_one_by_one(monkeypatch):
    monkeypatch.setattr(jaccard_bins, "PIXELS", 512)
    bins = 2 * jaccard_bins.ROWS * jaccard_bins.COLUMNS
    rng = np.random.default_rng(6)
    # Twice as many in the lowest bins; the last one is beyond the table.
    drawn = np.minimum(rng.integers(0, bins + 1, 1300), rng.integers(0, bins + 1, 1300))
    drawn[:40] = [0] * 20 + [bins] * 20
    drawn = jnp.asarray(drawn, jnp.int32)
    counts = np.bincount(drawn, minlength=bins + 1)[:bins]
    np.testing.assert_array_equal(jaccard_bins.count_by_products(drawn), counts)
    np.testing.assert_array_equal(jaccard_bins.count_one_by_one(drawn), counts)
    table = jnp.asarray(rng.normal(size=bins) * 10.0 ** rng.integers(-12, 1, bins), jnp.float32)
    entries = np.append(table, 0)[drawn]
    np.testing.assert_allclose(jaccard_bins.look_up_by_products(drawn, table), entries, rtol=1e-6)
    np.testing.assert_array_equal(jaccard_bins.look_up_one_by_one(drawn, table), entries)


def test_devices_count_their_own_pixels():
    mesh = sharding.make_mesh()
    logits, label = _draw(7, 4)
    whole, expected = _value_and_gradient(logits, label, "binned")
    logits, label = jax.device_put(
        (logits, label), NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    )
    value, gradient = _value_and_gradient(logits, label, "binned", mesh)
    assert float(value) == pytest.approx(float(whole), rel=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-9)
    program = _value_and_gradient.lower(logits, label, "binned", mesh).compile().as_text()
    assert "all-reduce" in program
    assert "all-gather" not in program
    assert "all-to-all" not in program


@pytest.mark.parametrize(("platform", "scatters"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_accelerators_neither_sort_nor_scatter(platform, scatters):
    mesh = sharding.make_mesh()
    split = NamedSharding(mesh, PartitionSpec("data"))
    logits = jax.ShapeDtypeStruct((8, 6, 6, 5), jnp.float32, sharding=split)
    label = jax.ShapeDtypeStruct((8, 6, 6), jnp.int32, sharding=split)
    loss = jax.jit(
        jax.value_and_grad(lambda x, y: lovasz.lovasz_softmax(x, y, form="binned", mesh=mesh))
    )
    program = loss.trace(logits, label).lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.scatter" in program) == scatters
    assert ("stablehlo.gather" in program) == scatters
    assert "stablehlo.sort" not in program
