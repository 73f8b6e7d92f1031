"""The way back: scores on the input grid, read at the original pixels a strip of rows at a time."""

from collections.abc import Iterator

import numpy as np

from dmlcsr_jax.data.warp import unwarp_logits

# Scores of a large photograph are made a strip of rows at a time: 24 megapixels of 19 classes
# would be 1.8 GB at once.
STRIP_SCORES = 2**24

Strip = tuple[tuple[slice, slice], np.ndarray, np.ndarray | bool]


def strips(scores: np.ndarray, matrix: np.ndarray, hw: tuple[int, int]) -> Iterator[Strip]:
    """Yields one view's scores at the original pixels that the view shows.

    Args:
      scores: float32 `[S, S, C]` on the input grid.
      matrix: float64 `[2, 3]`, original pixel to input pixel (`warp.box_matrix`).
      hw: original height and width, pixels.

    Returns:
      Iterator of the strip's place, two slices of the original rows and columns; its scores,
      float32 `[h, w, C]`; and which of its pixels the view shows, bool `[h, w]`, or True for all.
    """
    size = scores.shape[0]
    is_turned = bool(matrix[0, 1] or matrix[1, 0])
    left, top, right, bottom = (_reach_turned if is_turned else reach)(matrix, size, hw)
    width = right - left
    rows = max(1, STRIP_SCORES // max(1, width * scores.shape[-1]))
    for first in range(top, bottom if width > 0 else top, rows):
        last = min(first + rows, bottom)
        from_strip = matrix @ np.array([[1, 0, left], [0, 1, first], [0, 0, 1]], np.float64)
        hw_strip = (last - first, width)
        shown = _is_shown(from_strip, size, hw_strip) if is_turned else True
        strip_scores = unwarp_logits(scores, from_strip, hw_strip)
        yield (slice(first, last), slice(left, right)), strip_scores, shown


def reach(matrix: np.ndarray, size: int, hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of the original pixels whose centres the input shows.

    Args:
      matrix: float64 `[2, 3]`, original pixel to input pixel, not turned.
      size: side of the input.
      hw: original height and width.
    """
    scale, offset = np.diag(matrix[:, :2]), matrix[:, 2]
    left, top = np.maximum(np.ceil((-0.5 - offset) / scale), 0).astype(int)
    right, bottom = np.floor((size - 0.5 - offset) / scale).astype(int) + 1
    return int(left), int(top), min(int(right), hw[1]), min(int(bottom), hw[0])


def _reach_turned(matrix: np.ndarray, size: int, hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the pixels about a turned input, of which `_is_shown` tells those that it shows."""
    edges = np.array([-0.5, size - 0.5])
    corners = np.stack(np.meshgrid(edges, edges)).reshape(2, 4)
    x, y = np.linalg.solve(matrix[:, :2], corners - matrix[:, 2:])
    left, top = max(int(np.ceil(x.min())), 0), max(int(np.ceil(y.min())), 0)
    return left, top, min(int(x.max()) + 1, hw[1]), min(int(y.max()) + 1, hw[0])


def _is_shown(matrix: np.ndarray, size: int, hw: tuple[int, int]) -> np.ndarray:
    """Returns bool `hw`: which pixels' centres lie in the input."""
    shown = np.ones(hw, bool)
    for of_x, of_y, offset in matrix:
        place = of_x * np.arange(hw[1]) + (of_y * np.arange(hw[0]) + offset)[:, None]
        shown &= (place >= -0.5) & (place <= size - 0.5)
    return shown
