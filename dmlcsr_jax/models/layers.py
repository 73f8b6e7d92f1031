"""Layers that the encoders and heads share, channels-last.

Flax's own, but for PyTorch's batch statistics and `ABN`, which it does not have, and for operations
that XLA is slow at on CPUs: those have a formulation here that gives the same numbers. The ratios
beside them are times of the library's form over ours, value alone and with gradients, by
`benchmarks/layers.py` at the network's sizes.

Modules take `conv` and `norm` as partials of `conv` and `ABN`, which hold the dtypes: `dtype` of
the computation and the result (None: the wider one of input and parameters), and `param_dtype` of
parameters, batch statistics and the arithmetic of normalisation.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dmlcsr_jax.data.unwarp import interpolation_matrix
from dmlcsr_jax.models.depthwise import depthwise_conv
from dmlcsr_jax.models.initial import INITIALIZERS

ModuleDef = Callable[..., nn.Module]

EPSILON = 1e-5
LEAKY_SLOPE = 0.01


def storage_dtype(dtype):
    """Returns the dtype of parameters, statistics and logits: float64 for float64, else float32."""
    return jnp.promote_types(dtype, jnp.float32)


def resize(x, hw):
    """Resizes bilinearly with the corner pixels of input and output aligned.

    The same as PyTorch's `interpolate(mode="bilinear", align_corners=True)` (method, Network). As a
    product with two small matrices it is exact, and its gradient needs no scatter.
    `jax.image.scale_and_translate` (0.8 to 0.9; 0.7 to 0.8) rounds positions: it is up to 20 times
    further from the exact numbers, and wrong at a side of one pixel.

    Args:
      x: floating `[..., H, W, C]`.
      hw: height and width of the result.

    Returns:
      `[..., *hw, C]` of x's dtype; interpolated in float32 at least.
    """
    height, width = hw
    if x.shape[-3:-1] == (height, width):
        return x
    dtype = storage_dtype(x.dtype)
    rows = jnp.asarray(interpolation_matrix(height, x.shape[-3]), dtype)
    columns = jnp.asarray(interpolation_matrix(width, x.shape[-2]), dtype)
    # The smaller intermediate first; full precision, because positions are not bfloat16 numbers.
    einsum = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    y = einsum("pj,...ijc->...ipc", columns, x.astype(dtype))
    return einsum("oi,...ipc->...opc", rows, y).astype(x.dtype)


def max_pool(x):
    """Max-pools 3x3 with stride 2 and padding 1: `[B, H, W, C]` to `[B, ceil(H/2), ceil(W/2), C]`.

    Slices instead of Flax's window reduction (0.3; 2.9), whose gradient is slow.
    """
    height, width = (x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    rows = [x[:, i : i + 2 * height - 1 : 2] for i in range(3)]
    x = functools.reduce(jnp.maximum, rows)
    columns = [x[:, :, j : j + 2 * width - 1 : 2] for j in range(3)]
    return functools.reduce(jnp.maximum, columns)


def window_max_pool(x):
    """Max-pools as `max_pool` does, by one operation of the library."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding="VALID")


def _convolve(x, kernel, strides, padding, *, feature_group_count, rhs_dilation, **options):
    """Takes the place of `lax.conv_general_dilated` in Flax's convolution, with its numbers."""
    if kernel.shape[:2] == (1, 1) and feature_group_count == 1:  # (1.0 to 1.8; 1.8 to 4.7)
        x = x[:, :: strides[0], :: strides[1]]
        # As two matrices: of more axes, XLA writes a transposed gradient before it multiplies.
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)
    if feature_group_count == kernel.shape[3] == x.shape[3]:
        if isinstance(padding, str):
            reach = [(size - 1) * rhs_dilation[0] + 1 for size in kernel.shape[:2]]
            padding = lax.padtype_to_pads(x.shape[1:3], reach, strides, padding)
        padding = tuple(map(tuple, padding))
        return depthwise_conv(x, kernel[:, :, 0], strides[0], padding, rhs_dilation[0])
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        feature_group_count=feature_group_count,
        rhs_dilation=rhs_dilation,
        **options,
    )


def conv(
    features,
    kernel_size=1,
    *,
    stride=1,
    dilation=1,
    groups=1,
    padding=None,
    use_bias=False,
    dtype=None,
    param_dtype=jnp.float32,
    convolve=_convolve,
    name=None,
):
    """Returns Flax's convolution, by default with PyTorch's padding.

    It maps `[B, H, W, C]` to `[B, ceil(H / stride), ceil(W / stride), features]`.

    Args:
      features: channels of the result.
      kernel_size: side of the kernel, odd.
      stride: of the result's grid.
      dilation: of the kernel.
      groups: of channels, each convolved by itself.
      padding: as Flax takes it ("SAME" is TensorFlow's); None: `dilation * (kernel_size // 2)`.
      use_bias: whether a bias is added.
      dtype: of the computation and the result; None: the wider of input and parameters.
      param_dtype: of kernel and bias.
      convolve: what convolves, called as `lax.conv_general_dilated`, which gives the same numbers.
      name: of the module.
    """
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        strides=stride,
        padding=dilation * (kernel_size // 2) if padding is None else padding,
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=use_bias,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=INITIALIZERS["kernel"],
        bias_init=INITIALIZERS["bias"],
        conv_general_dilated=convolve,
        name=name,
    )


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, `bn` of the method; activated, its `abn`.

    Not Flax's own, whose running variance is the biased one. In training the batch's mean and
    biased variance normalise, over the global batch wherever the arrays are global; the running
    statistics move by `1 - momentum` towards the batch's mean and its unbiased variance, as
    PyTorch's do.

    Attributes:
      use_running_average: whether the running statistics normalise, instead of the batch's.
      momentum: share of the old running statistics that is kept in a training step.
      activated: gives InPlaceABN's
        `leaky_relu((|scale| + 1e-5) * (x - mean) / sqrt(var + 1e-5) + bias, 0.01)`.
      epsilon: added to the variance.
      dtype: of the result; None: `param_dtype`.
      param_dtype: of parameters, statistics and the arithmetic.
    """

    use_running_average: bool
    momentum: float = 0.9
    activated: bool = False
    epsilon: float = EPSILON
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        """Normalises `[..., C]`."""
        features, dtype = x.shape[-1:], self.param_dtype

        def statistic(name):
            start = functools.partial(INITIALIZERS[name], None, features, dtype)
            return self.variable("batch_stats", name, start)

        scale = self.param("scale", INITIALIZERS["scale"], features, dtype)
        bias = self.param("bias", INITIALIZERS["bias"], features, dtype)
        running_mean, running_var = statistic("mean"), statistic("var")

        x = x.astype(dtype)
        if self.use_running_average:
            mean, var = running_mean.value, running_var.value
        else:
            mean, var = _batch_statistics(x, running_mean.value)
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                keep, move = self.momentum, 1.0 - self.momentum
                running_mean.value = keep * running_mean.value + move * mean
                running_var.value = keep * running_var.value + move * unbiased
        if self.activated:
            scale = jnp.abs(scale) + EPSILON
        factor = scale * lax.rsqrt(var + self.epsilon)
        x = x * factor + (bias - mean * factor)
        if self.activated:
            x = jax.nn.leaky_relu(x, LEAKY_SLOPE)
        return x.astype(self.dtype or dtype)


ABN = functools.partial(BatchNorm, activated=True)


def _batch_statistics(x, shift):
    """Returns mean and biased variance in one pass, shifted by a mean known beforehand.

    The shift keeps `E[d^2] - E[d]^2` from cancelling where the mean outweighs the deviation.
    """
    axes = tuple(range(x.ndim - 1))
    shift = lax.stop_gradient(shift)
    shifted = x - shift
    mean = jnp.mean(shifted, axes)
    var = jnp.maximum(jnp.mean(jnp.square(shifted), axes) - jnp.square(mean), 0.0)
    return mean + shift, var


class ConvABN(nn.Module):
    """A convolution without bias, then `ABN`.

    Attributes:
      conv: partial of `conv`.
      norm: partial of `ABN`.
      features: channels of the result.
      kernel_size: side of the kernel, odd.
    """

    conv: ModuleDef
    norm: ModuleDef
    features: int
    kernel_size: int = 1

    @nn.compact
    def __call__(self, x):
        """Maps `[B, H, W, C]` to `[B, H, W, features]`."""
        x = self.conv(self.features, self.kernel_size, name="conv")(x)
        return self.norm(name="norm")(x)
