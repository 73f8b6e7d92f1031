"""Layers against PyTorch and NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dmlcsr_jax.models import layers


def _draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _torch(x):
    """`[B, H, W, C]` NumPy to `[B, C, H, W]` torch."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def _numpy(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


@pytest.mark.parametrize(
    ("shape", "hw"),
    [
        ((2, 5, 7, 3), (9, 13)),
        ((1, 60, 60, 2), (119, 119)),
        ((2, 9, 6, 3), (4, 5)),
        ((1, 1, 4, 2), (3, 1)),
        ((1, 3, 3, 1), (1, 1)),
        ((2, 4, 4, 3), (4, 4)),
    ],
)
def test_resize_is_torch_align_corners_with_its_gradient(shape, hw):
    x, weight = _draw(*shape), _draw(shape[0], *hw, shape[3], seed=1)
    inputs = _torch(x).requires_grad_()
    expected = F.interpolate(inputs, size=hw, mode="bilinear", align_corners=True)
    (expected * _torch(weight)).sum().backward()
    got = layers.resize(jnp.asarray(x), hw)
    gradient = jax.grad(lambda x: (layers.resize(x, hw) * weight).sum())(jnp.asarray(x))
    np.testing.assert_allclose(got, _numpy(expected), atol=5e-6)
    np.testing.assert_allclose(gradient, _numpy(inputs.grad), atol=2e-5)


def test_resize_keeps_corners_and_dtype_in_bfloat16():
    x = jnp.asarray(_draw(1, 4, 5, 2), jnp.bfloat16)
    y = layers.resize(x, (13, 17))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y[0, ::12, ::16], x[0, ::3, ::4])


@pytest.mark.parametrize("hw", [(8, 8), (9, 12), (7, 5), (1, 2)])
def test_max_pool_is_torch_max_pool_with_its_gradient(hw):
    x = _draw(2, *hw, 3)
    inputs = _torch(x).requires_grad_()
    expected = F.max_pool2d(inputs, 3, 2, padding=1)
    expected.square().sum().backward()
    got = layers.max_pool(jnp.asarray(x))
    gradient = jax.grad(lambda x: jnp.square(layers.max_pool(x)).sum())(jnp.asarray(x))
    np.testing.assert_array_equal(got, _numpy(expected))
    np.testing.assert_allclose(gradient, _numpy(inputs.grad), atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "hw"),
    [(1, 1, 1, (6, 5)), (1, 2, 1, (7, 6)), (3, 1, 2, (9, 7)), (3, 2, 1, (8, 9)), (7, 2, 1, (9, 8))],
)
def test_conv_is_torch_conv(kernel, stride, dilation, hw):
    conv = layers.conv(5, kernel, stride=stride, dilation=dilation, use_bias=True)
    x = _draw(2, *hw, 3)
    params = conv.init(jax.random.key(0), x)["params"]
    params["bias"] = jnp.arange(5.0)
    expected = F.conv2d(
        _torch(x),
        torch.from_numpy(np.array(params["kernel"]).transpose(3, 2, 0, 1)),
        torch.arange(5.0),
        stride=stride,
        padding=dilation * (kernel // 2),
        dilation=dilation,
    )
    np.testing.assert_allclose(conv.apply({"params": params}, x), _numpy(expected), atol=1e-5)


@pytest.mark.parametrize("hw", [(8, 8), (9, 6), (1, 1)])
@pytest.mark.parametrize(
    ("groups", "kernel_size", "stride", "dilation"),
    [(4, 3, 2, 1), (4, 5, 3, 1), (4, 3, 1, 2), (2, 3, 2, 1), (2, 1, 2, 1)],
)
def test_grouped_conv_is_torch_grouped_conv(hw, groups, kernel_size, stride, dilation):
    conv = layers.conv(4, kernel_size, stride=stride, dilation=dilation, groups=groups)
    x = _draw(2, *hw, 4)
    params = conv.init(jax.random.key(0), x)["params"]
    expected = F.conv2d(
        _torch(x),
        torch.from_numpy(np.array(params["kernel"]).transpose(3, 2, 0, 1)),
        stride=stride,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=groups,
    )
    np.testing.assert_allclose(conv.apply({"params": params}, x), _numpy(expected), atol=2e-6)


def _norm_variables(features, seed=3):
    rng = np.random.default_rng(seed)
    params = {
        "scale": rng.uniform(-1.5, 1.5, features).astype(np.float32),
        "bias": rng.standard_normal(features).astype(np.float32),
    }
    stats = {
        "mean": rng.standard_normal(features).astype(np.float32),
        "var": rng.uniform(0.5, 2.0, features).astype(np.float32),
    }
    return {"params": params, "batch_stats": stats}


def _formula(x, variables, mean, var, activated):
    """The specification's formulas in float64."""
    scale = variables["params"]["scale"].astype(np.float64)
    scale = np.abs(scale) + 1e-5 if activated else scale
    y = scale * (x - mean) / np.sqrt(var + 1e-5) + variables["params"]["bias"]
    return np.where(y >= 0, y, 0.01 * y) if activated else y


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (3, 7, 6)])
def test_norm_in_training_and_evaluation(activated, shape):
    norm = functools.partial(layers.BatchNorm, activated=activated)
    x = 2.0 * _draw(*shape) + 3.0
    variables = _norm_variables(shape[-1])
    axes = tuple(range(len(shape) - 1))
    wide = x.astype(np.float64)
    mean, var = wide.mean(axes), wide.var(axes)

    y, updated = norm(False).apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(y, _formula(wide, variables, mean, var, activated), atol=2e-5)
    old, new = variables["batch_stats"], updated["batch_stats"]
    np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(
        new["var"], 0.9 * old["var"] + 0.1 * wide.var(axes, ddof=1), rtol=1e-5
    )

    y = norm(True).apply(variables, x)
    expected = _formula(wide, variables, old["mean"], old["var"], activated)
    np.testing.assert_allclose(y, expected, atol=2e-5)


def test_norm_without_momentum_records_the_batch():
    x = _draw(4, 3, 3, 2)
    _, updated = layers.ABN(False, momentum=0.0).apply(
        _norm_variables(2), x, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(updated["batch_stats"]["mean"], x.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], x.var((0, 1, 2), ddof=1), rtol=1e-5)


def test_initialisation_leaves_the_running_statistics_fresh():
    variables = layers.ABN(False).init(jax.random.key(0), 5.0 + _draw(4, 3, 3, 2))
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], [0.0, 0.0])
    np.testing.assert_array_equal(variables["batch_stats"]["var"], [1.0, 1.0])


def test_variance_survives_a_mean_a_thousand_deviations_away():
    x = 1000.0 + _draw(64, 8, 8, 2)
    variables = _norm_variables(2)
    variables["batch_stats"]["mean"] = np.full(2, 999.5, np.float32)
    _, updated = layers.BatchNorm(False, momentum=0.0).apply(variables, x, mutable=["batch_stats"])
    expected = x.astype(np.float64).var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["var"], expected, rtol=1e-3)


def test_bfloat16_norm_computes_statistics_in_float32():
    x = jnp.asarray(_draw(64, 16, 16, 2) + 1.0, jnp.bfloat16)
    y, updated = layers.ABN(False, momentum=0.0, dtype="bfloat16").apply(
        _norm_variables(2), x, mutable=["batch_stats"]
    )
    assert y.dtype == jnp.bfloat16
    mean = updated["batch_stats"]["mean"]
    assert mean.dtype == jnp.float32
    np.testing.assert_allclose(mean, np.asarray(x, np.float64).mean((0, 1, 2)), rtol=1e-5)


def test_norm_is_over_the_global_batch_of_a_sharded_array():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    x, variables = _draw(16, 3, 3, 2), _norm_variables(2)

    def apply(x):
        return layers.ABN(False).apply(variables, x, mutable=["batch_stats"])

    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    for got, expected in zip(
        jax.tree.leaves(jax.jit(apply)(sharded)), jax.tree.leaves(apply(x)), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-5)
