"""Depthwise convolutions agree with PyTorch's grouped ones, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from dmlcsr_jax.models import depthwise

# Height, width, kernel, stride, padding, dilation.
CASES = {
    "odd": (13, 10, 3, 1, ((1, 1), (1, 1)), 1),
    "stride 2, even": (12, 16, 5, 2, ((1, 2), (1, 2)), 1),
    "stride 2, odd": (13, 9, 5, 2, ((2, 2), (2, 2)), 1),
    "stride 2, ending before the border": (12, 9, 3, 2, ((0, 1), (1, 1)), 1),
    "dilated": (12, 9, 5, 1, ((4, 4), (4, 4)), 2),
    "dilated beyond the image": (5, 5, 5, 1, ((8, 8), (8, 8)), 4),
    "stride and dilation": (12, 12, 3, 2, ((1, 2), (1, 2)), 2),
    "several blocks of rows": (59, 7, 3, 1, ((1, 1), (1, 1)), 1),
    "several blocks, stride 2": (97, 6, 3, 2, ((1, 1), (0, 1)), 1),
    "no padding": (9, 8, 3, 2, ((0, 0), (0, 0)), 1),
}


def draw(case):
    height, width, size, stride, padding, dilation = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, height, width, 3)).astype(np.float32)
    kernel = rng.standard_normal((size, size, 3)).astype(np.float32)
    convolve = functools.partial(
        depthwise.depthwise_conv, stride=stride, padding=padding, dilation=dilation
    )
    y = jax.eval_shape(convolve, x, kernel)
    return x, kernel, rng.standard_normal(y.shape).astype(np.float32), convolve


def torch_results(case, x, kernel, gradient):
    _, _, _, stride, (rows, columns), dilation = CASES[case]
    x = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
    weight = torch.tensor(kernel).permute(2, 0, 1)[:, None].contiguous().requires_grad_()
    padded = torch.nn.functional.pad(x, (*columns, *rows))
    y = torch.nn.functional.conv2d(
        padded, weight, stride=stride, dilation=dilation, groups=x.shape[1]
    )
    y.backward(torch.tensor(gradient).permute(0, 3, 1, 2))
    return (
        y.detach().permute(0, 2, 3, 1).numpy(),
        x.grad.permute(0, 2, 3, 1).numpy(),
        weight.grad[:, 0].permute(1, 2, 0).numpy(),
    )


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_pytorchs(case):
    x, kernel, gradient, convolve = draw(case)
    y, pull_back = jax.vjp(convolve, x, kernel)
    for ours, theirs in zip(
        (y, *pull_back(gradient)), torch_results(case, x, kernel, gradient), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_both_ways_to_the_kernels_gradient_agree(case):
    x, kernel, gradient, convolve = draw(case)
    ways = (depthwise._kernel_gradient_by_blocks, depthwise._kernel_gradient_by_taps)
    by_blocks, by_taps = (way(x, kernel, gradient, **convolve.keywords) for way in ways)
    np.testing.assert_allclose(by_blocks, by_taps, rtol=1e-5, atol=1e-4)


def test_bfloat16_is_summed_in_float32():
    x, kernel, gradient, convolve = draw("dilated")
    rounded = [jnp.asarray(array, jnp.bfloat16) for array in (x, kernel, gradient)]
    y, pull_back = jax.vjp(convolve, *rounded[:2])
    results = (y, *pull_back(rounded[2]))
    assert {result.dtype for result in results} == {jnp.dtype(jnp.bfloat16)}
    exact = torch_results("dilated", *(np.asarray(array, np.float32) for array in rounded))
    for ours, theirs in zip(results, exact, strict=True):
        # One rounding: half a unit in the last of 8 bits.
        np.testing.assert_allclose(np.asarray(ours, np.float32), theirs, rtol=2**-8, atol=1e-4)


def test_double_precision_stays_so():
    with jax.enable_x64(True):
        x, kernel, gradient, convolve = draw("stride 2, even")
        y, pull_back = jax.vjp(convolve, x.astype(np.float64), kernel.astype(np.float64))
        assert {leaf.dtype for leaf in (y, *pull_back(gradient.astype(np.float64)))} == {
            jnp.dtype(jnp.float64)
        }


def test_agrees_with_xlas_grouped_convolution_over_a_split_batch():
    x, kernel, gradient, convolve = draw("stride 2, odd")
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x, gradient = jax.device_put(x, split), jax.device_put(gradient, split)

    def grouped(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel[:, :, None],
            (2, 2),
            convolve.keywords["padding"],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=3,
        )

    def results(function):
        y, pull_back = jax.vjp(function, x, kernel)
        return y, *pull_back(gradient)

    for ours, theirs in zip(
        jax.jit(results, static_argnums=0)(convolve), results(grouped), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)
