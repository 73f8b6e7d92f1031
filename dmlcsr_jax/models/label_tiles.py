"""From a view's scores to the photograph's label map or its counts, on the device, in tiles.

One byte a pixel, or the counts alone, come to the host instead of every class's score.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dmlcsr_jax.data import unwarp
from dmlcsr_jax.data.unwarp import interpolation_matrix

# Few, for each is a program of its own; the scores of a large photograph would fit no memory.
SIDES = (128, 256, 512)


def label_from_scores(
    scores: jax.Array | np.ndarray, matrix: np.ndarray, hw: tuple[int, int], size: int
) -> np.ndarray:
    """Maps one view's scores back to the photograph and takes the best class.

    Args:
      scores: floating `[h, h, C]`, as `make_predict_fn`'s function returns them for one image;
        computed with where they lie.
      matrix: float64 `[2, 3]`, original pixel to input pixel (`geometry.box_matrix`), not turned.
      hw: original height and width.
      size: side of the network's input, S.

    Returns:
      uint8 `hw`, labels; the lowest of equally good ones; 0, the background, where the input does
      not reach.
    """
    label = np.zeros(hw, np.uint8)
    # A list, so that all tiles are started before the first is waited for.
    for place, tile in list(_tiles(scores, matrix, hw, size)):
        height, width = label[place].shape
        label[place] = np.asarray(tile)[:height, :width]
    return label


def counts_from_scores(
    scores: jax.Array | np.ndarray,
    matrix: np.ndarray,
    kinds: np.ndarray,
    size: int,
    num_kinds: int,
) -> np.ndarray:
    """Counts the labels of the pixels of each kind; the label map stays where it is made.

    Args:
      scores: as of `label_from_scores`, whose labels are counted.
      matrix: as of `label_from_scores`.
      kinds: int16 `[H, W]`, of each original pixel, below `num_kinds`; -1: not counted.
      size: as of `label_from_scores`.
      num_kinds: K.

    Returns:
      int64 `[K, C]`, pixels by kind (row) and label.
    """
    started = []
    for place, tile in _tiles(scores, matrix, kinds.shape, size):
        height, width = kinds[place].shape
        padded = np.full(tile.shape, -1, np.int16)
        padded[:height, :width] = kinds[place]
        started.append(_count_pairs(padded, tile, num_kinds, scores.shape[-1]))
    counts = np.zeros((num_kinds, scores.shape[-1]), np.int64)
    for pairs in started:
        counts += np.asarray(pairs)
    totals = np.bincount(kinds.ravel() + 1, minlength=num_kinds + 1)[1:]
    counts[:, 0] += totals - counts.sum(axis=1)  # Where the input does not reach.
    return counts


def _tiles(
    scores, matrix: np.ndarray, hw: tuple[int, int], size: int
) -> Iterator[tuple[tuple[slice, slice], jax.Array]]:
    """Yields places of the photograph, and uint8 `[side, side]` whose beginning is its labels."""
    rows, columns = unwarp.region(matrix, size, hw, edge=0.5)
    top, bottom, left, right = rows.start, rows.stop, columns.start, columns.stop
    extent = max(right - left, bottom - top)
    side = next((side for side in SIDES if side >= extent), SIDES[-1])
    # Of rows and columns: pixels of the input by the photograph's, and where the first one lies.
    scale, start = matrix[[1, 0], [1, 0]], matrix[[1, 0], 2]
    for y in range(top, bottom, side):
        for x in range(left, right, side):
            lines = np.float32([scale, start + scale * (y, x)])
            place = slice(y, min(y + side, bottom)), slice(x, min(x + side, right))
            yield place, _label_tile(scores, *lines, size, side)


@functools.partial(jax.jit, static_argnames=("size", "side"))
def _label_tile(scores, scale, offset, size: int, side: int):
    """Returns uint8 `[side, side]`, the labels of a tile whose pixel p lies at scale p + offset.

    Args:
      scores: `[h, h, C]`.
      scale: float32 `[2]`, of rows and columns: pixels of the input by the photograph's.
      offset: float32 `[2]`, where the tile's first row and column lie in the input.
      size: side of the input.
      side: of the tile.
    """
    product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    resize = jnp.asarray(interpolation_matrix(size, scores.shape[0]), scores.dtype)
    position = scale[:, None] * jnp.arange(side) + offset[:, None]
    position = jnp.clip(position, 0, size - 1).astype(scores.dtype)
    distance = jnp.abs(position[:, :, None] - jnp.arange(size, dtype=scores.dtype))
    rows, columns = product(jnp.maximum(1 - distance, 0), resize)
    by_class = jnp.transpose(scores, (2, 0, 1))
    return jnp.argmax(product(rows, product(by_class, columns.T)), axis=0).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnames=("num_kinds", "num_classes"))
def _count_pairs(kinds, label, num_kinds: int, num_classes: int):
    """Returns int32 `[num_kinds, num_classes]`, pixels by kind (-1: none) and label."""
    # Accelerators multiply matrices of zeros and ones faster than they add at indices.
    is_kind = kinds.ravel() == jnp.arange(num_kinds, dtype=kinds.dtype)[:, None]
    is_class = label.ravel() == jnp.arange(num_classes, dtype=label.dtype)[:, None]
    operands = is_kind.astype(jnp.int8), is_class.astype(jnp.int8)
    return lax.dot_general(*operands, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)
