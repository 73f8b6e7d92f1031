"""Layers that the encoders and heads share, channels-last.

Every layer computes in `dtype`; parameters, batch statistics and the arithmetic of normalisation
stay in `storage_dtype(dtype)`. Formulations are chosen to be fast in XLA on CPUs as well as on
accelerators: 1x1 convolutions as matrix products, pooling and depthwise convolutions as slices.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

EPSILON = 1e-5
LEAKY_SLOPE = 0.01

kernel_init = nn.initializers.he_normal()


def storage_dtype(dtype):
    """Returns the dtype of parameters, statistics and logits: float64 for float64, else float32."""
    return jnp.promote_types(dtype, jnp.float32)


@functools.lru_cache
def _interpolation_matrix(num_out, num_in):
    """Returns float64 `[num_out, num_in]`, the linear interpolation with both ends aligned."""
    position = np.arange(num_out) * ((num_in - 1) / max(num_out - 1, 1))
    distance = np.abs(position[:, None] - np.arange(num_in)[None, :])
    return np.maximum(1.0 - distance, 0.0)


def resize(x, hw):
    """Resizes bilinearly with the corner pixels of input and output aligned.

    The same as PyTorch's `interpolate(mode="bilinear", align_corners=True)` (method, Network). As a
    product with two small matrices it is exact, and its gradient needs no scatter.

    Args:
      x: floating `[B, H, W, C]`.
      hw: height and width of the result.

    Returns:
      `[B, *hw, C]` of x's dtype; interpolated in float32 at least.
    """
    height, width = hw
    if x.shape[1:3] == (height, width):
        return x
    dtype = storage_dtype(x.dtype)
    rows = jnp.asarray(_interpolation_matrix(height, x.shape[1]), dtype)
    columns = jnp.asarray(_interpolation_matrix(width, x.shape[2]), dtype)
    # The smaller intermediate first; full precision, because positions are not bfloat16 numbers.
    einsum = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    y = einsum("pj,bijc->bipc", columns, x.astype(dtype))
    return einsum("oi,bipc->bopc", rows, y).astype(x.dtype)


def _pad(x, padding, value=0.0):
    return jnp.pad(
        x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=value
    )


def max_pool(x):
    """Max-pools 3x3 with stride 2 and padding 1: `[B, H, W, C]` to `[B, ceil(H/2), ceil(W/2), C]`.

    Slices instead of a window reduction, whose gradient (select and scatter) is slow.
    """
    height, width = (x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2
    x = _pad(x, 1, -jnp.inf)
    rows = [x[:, i : i + 2 * height - 1 : 2] for i in range(3)]
    x = functools.reduce(jnp.maximum, rows)
    columns = [x[:, :, j : j + 2 * width - 1 : 2] for j in range(3)]
    return functools.reduce(jnp.maximum, columns)


class Conv(nn.Module):
    """A convolution with PyTorch's padding of `dilation * (kernel_size // 2)`.

    Attributes:
      features: channels of the result.
      kernel_size: side of the kernel, odd.
      stride: of the result's grid.
      dilation: of the kernel.
      use_bias: whether a bias is added.
      dtype: of the computation and the result.
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    dilation: int = 1
    use_bias: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        """Maps `[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]`."""
        k = self.kernel_size
        stored = storage_dtype(self.dtype)
        kernel = self.param("kernel", kernel_init, (k, k, x.shape[-1], self.features), stored)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if k == 1:
            y = x[:, :: self.stride, :: self.stride] @ kernel[0, 0]
        else:
            padding = self.dilation * (k // 2)
            y = lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(self.stride, self.stride),
                padding=[(padding, padding)] * 2,
                rhs_dilation=(self.dilation, self.dilation),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), stored)
            y = y + bias.astype(self.dtype)
        return y


class DepthwiseConv(nn.Module):
    """A 3x3 convolution of each channel by itself, stride 2, padding 1, no bias.

    A sum of nine shifted slices: grouped convolutions are dreadfully slow in XLA on CPUs.

    Attributes:
      dtype: of the computation and the result.
    """

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        """Maps `[B, H, W, C]` to `[B, ceil(H/2), ceil(W/2), C]`."""
        init = nn.initializers.he_normal()
        kernel = self.param("kernel", init, (3, 3, 1, x.shape[-1]), storage_dtype(self.dtype))
        kernel = kernel.astype(self.dtype)
        height, width = (x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2
        x = _pad(x.astype(self.dtype), 1)
        return sum(
            x[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2] * kernel[i, j, 0]
            for i in range(3)
            for j in range(3)
        )


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, `bn` of the method.

    In training the batch's mean and biased variance normalise, over the global batch wherever the
    arrays are global; the running statistics move by `1 - momentum` towards the batch's mean and
    its unbiased variance, as PyTorch's do.

    Attributes:
      momentum: share of the old running statistics that is kept in a training step.
      dtype: of the result; statistics are computed in float32 at least.
    """

    momentum: float = 0.9
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, *, train: bool):
        """Normalises `[..., C]`, by the batch's statistics where `train`, else the running ones."""
        features, dtype = x.shape[-1:], storage_dtype(self.dtype)
        scale = self.param("scale", nn.initializers.ones, features, dtype)
        bias = self.param("bias", nn.initializers.zeros, features, dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, dtype)

        x = x.astype(dtype)
        if train:
            mean, var = self._batch_statistics(x, running_mean.value)
            if not self.is_initializing():
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                keep, move = self.momentum, 1.0 - self.momentum
                running_mean.value = keep * running_mean.value + move * mean
                running_var.value = keep * running_var.value + move * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        factor = self._effective_scale(scale) * lax.rsqrt(var + EPSILON)
        return self._activate(x * factor + (bias - mean * factor)).astype(self.dtype)

    def _batch_statistics(self, x, shift):
        """Returns mean and biased variance in one pass, shifted by a mean known beforehand.

        The shift keeps `E[d^2] - E[d]^2` from cancelling where the mean outweighs the deviation.
        """
        axes = tuple(range(x.ndim - 1))
        shift = lax.stop_gradient(shift)
        shifted = x - shift
        mean = jnp.mean(shifted, axes)
        var = jnp.maximum(jnp.mean(jnp.square(shifted), axes) - jnp.square(mean), 0.0)
        return mean + shift, var

    def _effective_scale(self, scale):
        return scale

    def _activate(self, x):
        return x


class ABN(BatchNorm):
    """Activated batch normalisation, `abn` of the method (InPlaceABN).

    `leaky_relu((|scale| + 1e-5) * (x - mean) / sqrt(var + 1e-5) + bias, 0.01)`.
    """

    def _effective_scale(self, scale):
        return jnp.abs(scale) + EPSILON

    def _activate(self, x):
        return jax.nn.leaky_relu(x, LEAKY_SLOPE)


class ConvABN(nn.Module):
    """A convolution without bias, then `ABN`.

    Attributes:
      features: channels of the result.
      kernel_size: side of the kernel, odd.
      momentum: of the running statistics.
      dtype: of the computation and the result.
    """

    features: int
    kernel_size: int = 1
    momentum: float = 0.9
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x, *, train: bool):
        """Maps `[B, H, W, C]` to `[B, H, W, features]`."""
        x = Conv(self.features, self.kernel_size, dtype=self.dtype, name="conv")(x)
        return ABN(self.momentum, self.dtype, name="norm")(x, train=train)
