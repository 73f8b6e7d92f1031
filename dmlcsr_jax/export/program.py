"""From photographs of any size to their label maps, as one pure function of JAX.

The photograph is fitted into the network's input in whole numbers alone, so that every runtime sees
the same grey levels, and the logits are mapped back by one product with a small matrix for each
axis, a strip of rows at a time. `onnx_text` says the same in ONNX.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.data.unwarp import interpolation_matrix
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.normalize import normalize

# Rows of the label map that are made at a time: the scores of a large photograph would not fit a
# memory, and those of a strip fit a cache.
STRIP_ROWS = 16
# As many where strips are steps of their own: their number is the program's length.
_FIXED_STRIP_ROWS = 64
# Four times the squared side times 255 must fit an int32.
MAX_SIZE = 1450

_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def check_size(metadata: Metadata) -> None:
    """Refuses a network whose input is too large to be fitted in 32 bits.

    Raises:
      UserError: above `MAX_SIZE` pixels.
    """
    if metadata.image_size > MAX_SIZE:
        raise UserError(
            f"the network's input has {metadata.image_size} pixels a side; export takes networks "
            f"of up to {MAX_SIZE}."
        )


def fit(images, size: int):
    """Shows photographs in the network's input: centred, aspect kept, bilinear, black outside.

    `data.warp.warp_image` by `data.geometry.box_matrix` of the photograph's box, to a grey level in
    few pixels, where that one rounds positions.

    Args:
      images: uint8 `[B, H, W, 3]`.
      size: side of the input.

    Returns:
      float32 `[B, size, size, 3]`, whole numbers.
    """
    height, width = (jnp.asarray(n, jnp.int32) for n in images.shape[1:3])
    longer = jnp.maximum(height, width)
    first_row, second_row, row_weights = _taps(height, longer, size)
    first_column, second_column, column_weights = _taps(width, longer, size)

    def blended(rows):
        strips = jnp.take(images, rows, axis=1, mode="clip")
        pair = (
            jnp.take(strips, columns, axis=2, mode="clip").astype(jnp.int32)
            for columns in (first_column, second_column)
        )
        return sum(p * w[:, None] for p, w in zip(pair, column_weights, strict=True))

    pair = (blended(rows) for rows in (first_row, second_row))
    total = sum(p * w[:, None, None] for p, w in zip(pair, row_weights, strict=True))
    whole = 4 * size**2
    return ((total + whole // 2) // whole).astype(jnp.float32)


def _taps(count, longer, size):
    """Returns the two pixels beside each of `size` positions, and their weights of 2 * size."""
    centred = jnp.asarray(2 * np.arange(size) + 1 - size, jnp.int32)
    # Twice the size times the position in the photograph, pixel centres at whole numbers.
    position = centred * longer + (count - 1) * size
    first = position // (2 * size)
    share = position - first * (2 * size)
    inside = [(place >= 0) & (place < count) for place in (first, first + 1)]
    weights = [jnp.where(inside[0], 2 * size - share, 0), jnp.where(inside[1], share, 0)]
    return *(jnp.clip(place, 0, count - 1) for place in (first, first + 1)), weights


def back_matrix(count, padded, longer, size: int, num_logits: int):
    """Returns float32 `[padded, num_logits]`: logits along an axis to the photograph's pixels.

    It joins `layers.resize` from the logits to the input with `data.unwarp.sample`.

    Args:
      count: the photograph's pixels along the axis.
      padded: rows of the result; those beyond `count` mean nothing.
      longer: the photograph's pixels along its longer axis.
      size: side of the input.
      num_logits: logits along the axis.
    """
    centred = 2 * jnp.arange(padded, dtype=jnp.int32) + 1 - count
    position = (centred * size + (size - 1) * longer) / jnp.float32(2 * longer)
    position = jnp.clip(position, 0, size - 1)
    distance = jnp.abs(position[:, None] - jnp.arange(size, dtype=jnp.float32))
    resize = jnp.asarray(interpolation_matrix(size, num_logits), jnp.float32)
    return _product(jnp.maximum(1 - distance, 0), resize)


def make_core(model, metadata: Metadata, variables) -> Callable[[Any], jax.Array]:
    """Returns the network as `core(images)`: float32 `[B, S, S, 3]` RGB to logits `[B, h, h, C]`.

    Args:
      model: the network.
      metadata: its normalisation.
      variables: `{"params", "batch_stats"}`, which become constants.
    """

    def core(images):
        images = normalize(images, metadata, jnp.float32)
        return model.apply(variables, images, train=False)["parsing"]

    return core


def make_program(
    core: Callable[[Any], jax.Array], size: int, *, scores: bool = False
) -> Callable[[Any], jax.Array]:
    """Returns the function from photographs to label maps; its sizes may be symbolic.

    Args:
      core: float32 `[B, size, size, 3]` to logits float32 `[B, h, h, C]`, see `make_core`.
      size: side of the network's input.
      scores: whether the result is the logits of every pixel instead of its label.

    Returns:
      `program(images)`: uint8 `[B, H, W, 3]` RGB to labels uint8 `[B, H, W]`, the lowest of equally
      good ones; or to scores float32 `[B, H, W, C]`.
    """

    def program(images):
        height, width = images.shape[1:3]
        longer = jnp.maximum(jnp.asarray(height, jnp.int32), jnp.asarray(width, jnp.int32))
        logits = jnp.transpose(core(fit(images, size)), (0, 3, 1, 2))
        side = logits.shape[3]
        columns = _product(logits, back_matrix(width, width, longer, size, side).T)
        if scores:
            rows = back_matrix(height, height, longer, size, side)
            return jnp.transpose(_product(rows, columns), (0, 2, 3, 1))
        num_strips = (height + STRIP_ROWS - 1) // STRIP_ROWS
        rows = back_matrix(height, num_strips * STRIP_ROWS, longer, size, side)
        strips = lax.map(
            lambda strip: jnp.argmax(_product(strip, columns), axis=1).astype(jnp.uint8),
            rows.reshape(num_strips, STRIP_ROWS, side),
        )
        labels = jnp.moveaxis(strips, 0, 1).reshape(images.shape[0], -1, width)
        return jnp.take(labels, jnp.arange(height), axis=1)

    return program


def make_fixed_program(
    core: Callable[[Any], jax.Array], size: int, hw: tuple[int, int]
) -> Callable[[Any], jax.Array]:
    """Returns `make_program`'s function for photographs of one size, without a loop.

    Each strip takes those rows of logits alone that reach it.

    Args:
      core: as of `make_program`.
      size: side of the network's input.
      hw: height and width of the photographs.
    """

    def program(images):
        logits = jnp.transpose(core(fit(images, size)), (0, 3, 1, 2))
        with jax.ensure_compile_time_eval():
            rows, columns = (
                np.asarray(back_matrix(count, count, max(hw), size, logits.shape[3]))
                for count in hw
            )
        by_column = _product(logits, columns.T)
        strips = []
        for first in range(0, hw[0], _FIXED_STRIP_ROWS):
            strip = rows[first : first + _FIXED_STRIP_ROWS]
            reached = np.flatnonzero(strip.any(axis=0))
            near = slice(reached[0], reached[-1] + 1)
            scores = _product(strip[:, near], by_column[:, :, near])
            # LiteRT finds the greatest of neighbours fastest.
            scores = jnp.transpose(scores, (0, 2, 3, 1))
            strips.append(jnp.argmax(scores, axis=-1).astype(jnp.uint8))
        return jnp.concatenate(strips, axis=1)

    return program
