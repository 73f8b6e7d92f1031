"""Depthwise convolutions with gradients of their own, fast in XLA on CPUs.

XLA runs a grouped convolution on a CPU ten times slower than a sum of shifted slices. The slices'
automatic gradient is slow too: it scatters where the stride is 2, and it reads the whole batch
once for every tap of the kernel. Here the input's gradient is a sum of shifted slices again, one
for each phase of the stride, and the kernel's is summed over blocks of rows that fit a cache.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

# Rows of a block in the kernel's gradient: input and gradient together then fit a core's cache.
_BLOCK_ROWS = 24


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def depthwise_conv(x, kernel, stride, padding, dilation):
    """Convolves each channel by itself.

    Args:
      x: floating `[B, H, W, C]`.
      kernel: floating `[k, k, C]`.
      stride: of the result's grid, along both axes.
      padding: zeros before and after, for either axis: `((top, bottom), (left, right))`.
      dilation: of the kernel, along both axes.

    Returns:
      `[B, H', W', C]` of x's dtype, summed in float32 at least.
    """
    reach = (kernel.shape[0] - 1) * dilation + 1
    num_rows, num_columns = (
        (size + sum(pair) - reach) // stride + 1
        for size, pair in zip(x.shape[1:3], padding, strict=True)
    )
    padded = _padded(x, padding)
    kernel = kernel.astype(_sum_dtype(x))
    total = 0
    for i, j in _taps(kernel):
        rows = _strided(i * dilation, num_rows, stride)
        columns = _strided(j * dilation, num_columns, stride)
        total += padded[:, rows, columns].astype(kernel.dtype) * kernel[i, j]
    return total.astype(x.dtype)


def _forward(x, kernel, stride, padding, dilation):
    return depthwise_conv(x, kernel, stride, padding, dilation), (x, kernel)


def _backward(stride, padding, dilation, residuals, gradient):
    arguments = (*residuals, stride, padding, dilation, gradient)
    return _input_gradient(*arguments), _kernel_gradient(*arguments)


depthwise_conv.defvjp(_forward, _backward)


def _sum_dtype(x):
    return jnp.promote_types(x.dtype, jnp.float32)


def _taps(kernel):
    return itertools.product(range(kernel.shape[0]), range(kernel.shape[1]))


def _strided(start, count, stride):
    return slice(start, start + (count - 1) * stride + 1, stride)


def _padded(x, padding):
    # Else the fusion tests the border for every tap.
    return lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))


def _input_gradient(x, kernel, stride, padding, dilation, gradient):
    """Returns the gradient of x: one sum of slices for each phase of the stride, interleaved."""
    (top, bottom), (left, right) = padding
    height, width = x.shape[1] + top + bottom, x.shape[2] + left + right
    num_rows, num_columns = -(-height // stride), -(-width // stride)
    before = (kernel.shape[0] - 1) * dilation // stride
    after = [n - g for n, g in zip((num_rows, num_columns), gradient.shape[1:3], strict=True)]
    padded = _padded(gradient, [(before, max(0, a)) for a in after])
    kernel = kernel.astype(_sum_dtype(x))

    def phase(a, b):
        total = jnp.zeros((), kernel.dtype)
        for i, j in _taps(kernel):
            if (i * dilation - a) % stride or (j * dilation - b) % stride:
                continue
            row = before - (i * dilation - a) // stride
            column = before - (j * dilation - b) // stride
            part = padded[:, row : row + num_rows, column : column + num_columns]
            total += part.astype(kernel.dtype) * kernel[i, j]
        shape = (x.shape[0], num_rows, num_columns, x.shape[3])
        return jnp.broadcast_to(total, shape).astype(x.dtype)

    if stride == 1:
        return phase(0, 0)[:, top : top + x.shape[1], left : left + x.shape[2]]
    rows = [jnp.stack([phase(a, b) for b in range(stride)], axis=3) for a in range(stride)]
    whole = jnp.stack(rows, axis=2)
    whole = whole.reshape(x.shape[0], num_rows * stride, num_columns * stride, x.shape[3])
    return whole[:, top : top + x.shape[1], left : left + x.shape[2]]


def _kernel_gradient(x, kernel, stride, padding, dilation, gradient):
    by_blocks, by_taps = (
        functools.partial(function, stride=stride, padding=padding, dilation=dilation)
        for function in (_kernel_gradient_by_blocks, _kernel_gradient_by_taps)
    )
    return lax.platform_dependent(x, kernel, gradient, cpu=by_blocks, default=by_taps)


def _kernel_gradient_by_taps(x, kernel, gradient, *, stride, padding, dilation):
    """Returns the kernel's gradient, one sum over the batch for each tap."""
    padded, dtype = _padded(x, padding), _sum_dtype(x)
    sums = []
    for i, j in _taps(kernel):
        rows = _strided(i * dilation, gradient.shape[1], stride)
        columns = _strided(j * dilation, gradient.shape[2], stride)
        product = padded[:, rows, columns].astype(dtype) * gradient.astype(dtype)
        sums.append(product.sum((0, 1, 2)))
    return jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _kernel_gradient_by_blocks(x, kernel, gradient, *, stride, padding, dilation):
    """Returns the same, for all taps block after block of an image's rows."""
    num_images, num_rows, num_columns, channels = gradient.shape
    num_blocks = -(-num_rows // _BLOCK_ROWS)
    block_rows = -(-num_rows // num_blocks)
    extra = num_blocks * block_rows - num_rows
    dtype = _sum_dtype(x)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    # Rows of no gradient fill the last block.
    gradient = jnp.pad(gradient, ((0, 0), (0, extra), (0, 0), (0, 0)))
    reach = (block_rows - 1) * stride + (kernel.shape[0] - 1) * dilation + 1
    missing = (num_blocks - 1) * block_rows * stride + reach - padded.shape[1]
    padded = jnp.pad(padded, ((0, 0), (0, max(0, missing)), (0, 0), (0, 0)))
    padded, gradient = lax.optimization_barrier((padded, gradient))

    def add_block(index, sums):
        image, block = index // num_blocks, index % num_blocks * block_rows
        source = lax.dynamic_slice(
            padded, (image, block * stride, 0, 0), (1, reach, padded.shape[2], channels)
        )[0].astype(dtype)
        target = lax.dynamic_slice(
            gradient, (image, block, 0, 0), (1, block_rows, num_columns, channels)
        )[0].astype(dtype)
        added = []
        for (i, j), total in zip(_taps(kernel), sums, strict=True):
            columns = _strided(j * dilation, num_columns, stride)
            # One unrolled sum is one loop over columns and channels, without an intermediate.
            block_sum = sum(
                source[i * dilation + row * stride, columns] * target[row]
                for row in range(block_rows)
            )
            added.append(total + block_sum)
        return tuple(added)

    zeros = tuple(jnp.zeros((num_columns, channels), dtype) for _ in _taps(kernel))
    sums = lax.fori_loop(0, num_images * num_blocks, add_block, zeros)
    result = jnp.stack([total.sum(0) for total in sums])
    return result.reshape(kernel.shape).astype(kernel.dtype)
