"""Fresh variables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dmlcsr_jax import models
from dmlcsr_jax.models import initial


def _named(variables):
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def test_variables_are_laid_out_as_by_init():
    model = models.DMLCSR("tiny", 5)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    expected = jax.eval_shape(
        lambda images: model.init(jax.random.key(0), images, train=True), images
    )
    got = models.initial_variables(model, 0, 64)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_kernels_are_he_normal_and_the_rest_is_neutral():
    variables = models.initial_variables(models.DMLCSR("resnet18", 5), 3, 64)
    for name, value in _named(variables).items():
        kind = name.split("/")[-1]
        if kind != "kernel":
            np.testing.assert_array_equal(value, 1.0 if kind in ("scale", "var") else 0.0)
        elif value.size > 10_000:
            fan_in = value.size / value.shape[-1]
            np.testing.assert_allclose(value.std(), np.sqrt(2 / fan_in), rtol=0.05, err_msg=name)
            assert abs(value.mean()) < 0.05 * value.std(), name


def test_the_layers_declare_what_training_uses(monkeypatch):
    for i, name in enumerate(initial.INITIALIZERS):
        initializer = nn.initializers.constant(i + 1.0)
        monkeypatch.setitem(initial.INITIALIZERS, name, initializer)
    model = models.DMLCSR("tiny", 5)
    images = jnp.zeros((1, 64, 64, 3))
    declared = jax.jit(functools.partial(model.init, train=True))(jax.random.key(0), images)
    for variables in (declared, models.initial_variables(model, 0, 64)):
        for name, value in _named(variables).items():
            expected = 1 + list(initial.INITIALIZERS).index(name.split("/")[-1])
            np.testing.assert_array_equal(value, expected, err_msg=name)


@pytest.mark.parametrize("key", [jax.random.key(0), np.random.default_rng(0)], ids=["jax", "numpy"])
def test_he_normal_is_a_normal_with_its_tails(key):
    kernel = initial.he_normal(key, (3, 3, 100, 500))
    assert kernel.dtype == np.float32
    quantiles = np.quantile(kernel / np.sqrt(2 / 900), [0.00135, 0.1587, 0.8413, 0.99865])
    np.testing.assert_allclose(quantiles, [-3, -1, 1, 3], atol=0.03)


def test_draws_depend_on_seed_and_name_alone():
    five = _named(models.initial_variables(models.DMLCSR("tiny", 5), 0, 64)["params"])
    again = _named(models.initial_variables(models.DMLCSR("tiny", 5), 0, 96)["params"])
    seven = _named(models.initial_variables(models.DMLCSR("tiny", 7), 0, 64)["params"])
    other = _named(models.initial_variables(models.DMLCSR("tiny", 5), 1, 64)["params"])
    differing = [name for name in five if five[name].shape != seven[name].shape]
    assert set(differing) >= {"parsing/logits/kernel", "edge/shared/bias"}
    for name, value in five.items():
        np.testing.assert_array_equal(value, again[name])
        if name not in differing:
            np.testing.assert_array_equal(value, seven[name])
        if name.endswith("kernel"):
            assert not np.array_equal(value, other[name])
    flat = [value.reshape(-1)[:8] for name, value in five.items() if name.endswith("kernel")]
    standardised = {tuple(np.round(values / np.abs(values).max(), 4)) for values in flat}
    assert len(standardised) == len(flat), "two tensors share their draws"
