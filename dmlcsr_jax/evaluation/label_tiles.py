"""From a view's scores to the photograph's label map, on the device, a tile at a time.

One byte a pixel comes to the host instead of every class's score.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dmlcsr_jax.data import unwarp
from dmlcsr_jax.data.interpolation import interpolation_matrix

# Few, for each is a program of its own; the scores of a large photograph would fit no memory.
SIDES = (128, 256, 512)


def label_from_scores(
    scores: jax.Array | np.ndarray, matrix: np.ndarray, hw: tuple[int, int], size: int
) -> np.ndarray:
    """Maps one view's scores back to the photograph and takes the best class.

    Args:
      scores: floating `[h, h, C]`, as `make_predict_fn`'s function returns them for one image;
        computed with where they lie.
      matrix: float64 `[2, 3]`, original pixel to input pixel (`warp.box_matrix`), not turned.
      hw: original height and width.
      size: side of the network's input, S.

    Returns:
      uint8 `hw`, labels; the lowest of equally good ones; 0, the background, where the input does
      not reach.
    """
    label = np.zeros(hw, np.uint8)
    left, top, right, bottom = unwarp.reach(matrix, size, hw)
    extent = max(right - left, bottom - top)
    side = next((side for side in SIDES if side >= extent), SIDES[-1])
    # Of rows and columns: pixels of the input by the photograph's, and where the first one lies.
    scale, start = matrix[[1, 0], [1, 0]], matrix[[1, 0], 2]
    tiles = []
    for y in range(top, bottom, side):
        for x in range(left, right, side):
            lines = np.float32([scale, start + scale * (y, x)])
            tiles.append((y, x, _label_tile(scores, *lines, size, side)))
    for y, x, tile in tiles:
        place = slice(y, min(y + side, bottom)), slice(x, min(x + side, right))
        label[place] = np.asarray(tile)[: place[0].stop - y, : place[1].stop - x]
    return label


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
