"""The way back: from the scores on a view's grid to the photograph's pixels.

A network says its scores on a grid `[h, h, C]` whose corners lie on the corners of its input; what
lies between is interpolated linearly. `grid_matrix` turns the matrix that made the view
(`geometry.box_matrix`) into one from the photograph's pixels to the grid's.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

# Side of the tiles in which label maps are made, cells of the grid: few classes reach into one.
_TILE_CELLS = 3
# And pixels: each tile has its costs.
_LEAST_TILE = 40
# Of strips of scores: 24 megapixels of 19 classes would be 1.8 GB at once.
_STRIP_SCORES = 2**24

Place = tuple[slice, slice]


@functools.lru_cache
def interpolation_matrix(num_out: int, num_in: int) -> np.ndarray:
    """Returns float64 `[num_out, num_in]`, the linear interpolation with both ends aligned."""
    position = np.arange(num_out) * ((num_in - 1) / max(num_out - 1, 1))
    distance = np.abs(position[:, None] - np.arange(num_in)[None, :])
    return np.maximum(1.0 - distance, 0.0)


def grid_matrix(matrix: np.ndarray, size: int, num_cells: int) -> np.ndarray:
    """Returns float64 `[2, 3]`: photograph pixel to grid point.

    Args:
      matrix: float64 `[2, 3]`, photograph pixel to input pixel.
      size: side of the input, pixels.
      num_cells: side of the grid, h.
    """
    return matrix * ((num_cells - 1) / max(size - 1, 1))


def between(to_source: np.ndarray, to_target: np.ndarray) -> np.ndarray:
    """Returns float64 `[2, 3]`, target point to source point, of two matrices of one photograph."""
    linear = to_source[:, :2] @ np.linalg.inv(to_target[:, :2])
    return np.column_stack([linear, to_source[:, 2] - linear @ to_target[:, 2]])


def sample(scores: np.ndarray, matrix: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Reads scores bilinearly; beyond the grid its nearest border goes on.

    Args:
      scores: float32 `[h, w, C]`.
      matrix: float64 `[2, 3]`, target pixel to grid point.
      hw: the target's height and width.

    Returns:
      float32 `[*hw, C]`.
    """
    channels = scores.shape[2]
    sampled = np.empty((*hw, channels), np.float32)
    # OpenCV interpolates one, three or four channels exactly, others at steps of 1/32 pixel only.
    width = 4 if channels >= 4 else 1
    for start in range(0, channels, width):
        part = slice(min(start, channels - width), min(start + width, channels))
        sampled[..., part] = _warp(scores[..., part], matrix, hw).reshape(*hw, width)
    return sampled


def region(matrix: np.ndarray, num_cells: int, hw: tuple[int, int], edge: float = 0.0) -> Place:
    """Returns the rows and columns of the photograph about what a grid shows.

    Args:
      matrix: float64 `[2, 3]`, photograph pixel to grid point.
      num_cells: side of the grid.
      hw: the photograph's height and width.
      edge: what is shown beyond the grid's outer points, cells.
    """
    ends = np.array([-edge, num_cells - 1 + edge])
    corners = np.stack(np.meshgrid(ends, ends)).reshape(2, 4)
    x, y = np.linalg.solve(matrix[:, :2], corners - matrix[:, 2:])
    rows, columns = (
        slice(max(math.ceil(c.min() - 1e-9), 0), max(min(math.floor(c.max() + 1e-9) + 1, side), 0))
        for c, side in ((y, hw[0]), (x, hw[1]))
    )
    return rows, columns


def is_shown(matrix: np.ndarray, num_cells: int, place: Place, edge: float = 0.0) -> np.ndarray:
    """Returns bool `[h, w]`: which pixels of a place lie in the grid; the arguments as above."""
    rows, columns = (np.arange(part.start, part.stop) for part in place)
    shown = np.ones((rows.size, columns.size), bool)
    for of_x, of_y, offset in matrix:
        point = of_x * columns + (of_y * rows + offset)[:, None]
        shown &= (point >= -edge - 1e-9) & (point <= num_cells - 1 + edge + 1e-9)
    return shown


def strips(
    scores: np.ndarray, matrix: np.ndarray, place: Place
) -> Iterator[tuple[Place, np.ndarray]]:
    """Yields the scores at a place of the photograph, a strip of rows at a time.

    Args:
      scores: float32 `[h, h, C]`.
      matrix: float64 `[2, 3]`, photograph pixel to grid point.
      place: rows and columns of the photograph.

    Returns:
      Iterator of the strip's place and its scores, float32 `[rows, columns, C]`.
    """
    rows, columns = place
    width = columns.stop - columns.start
    step = max(1, _STRIP_SCORES // max(1, width * scores.shape[2]))
    for top in range(rows.start, rows.stop, step):
        bottom = min(top + step, rows.stop)
        moved = _moved(matrix, columns.start, top)
        yield (slice(top, bottom), columns), sample(scores, moved, (bottom - top, width))


def label_map(
    scores: np.ndarray, matrix: np.ndarray, place: Place, hidden: Sequence[Place] = ()
) -> np.ndarray:
    """Returns the class of the highest score at each pixel; of equal ones the lowest class.

    Bilinear interpolation stays between what the grid's points say, so that in a tile only those
    classes are looked at whose highest score there reaches the lowest one of some class.

    Args:
      scores: float32 `[h, h, C]`.
      matrix: float64 `[2, 3]`, photograph pixel to grid point.
      place: rows and columns of the photograph.
      hidden: other places, whose labels do not matter: some classes are not looked at there.

    Returns:
      uint8 `[rows, columns]`.
    """
    rows, columns = (np.arange(part.start, part.stop) for part in place)
    if not rows.size or not columns.size:
        return np.zeros((rows.size, columns.size), np.uint8)
    step = max(_LEAST_TILE, round(_TILE_CELLS / max(np.abs(matrix[:, :2]).sum(axis=1).max(), 1e-9)))
    tops, lefts = np.arange(0, rows.size, step), np.arange(0, columns.size, step)
    may_be = _classes_in_tiles(scores, matrix, rows[0] + tops, columns[0] + lefts, step)
    count = may_be.sum(axis=-1)
    for hidden_rows, hidden_columns in hidden:
        is_hidden = (
            (part.start <= first[0] + start)
            & (np.minimum(first[0] + start + step, first[-1] + 1) <= part.stop)
            for part, first, start in ((hidden_rows, rows, tops), (hidden_columns, columns, lefts))
        )
        count[np.ix_(*is_hidden)] = 1
    lowest = may_be.argmax(axis=-1).astype(np.uint8)
    label = lowest.repeat(step, axis=0).repeat(step, axis=1)[: rows.size, : columns.size]
    planes = np.ascontiguousarray(scores.transpose(2, 0, 1))
    moved = matrix.copy()
    for row, column in np.argwhere(count > 1):
        tile = label[tops[row] : tops[row] + step, lefts[column] : lefts[column] + step]
        moved[:, 2] = matrix @ (columns[lefts[column]], rows[tops[row]], 1.0)
        first, *others = np.flatnonzero(may_be[row, column])
        best = _warp(planes[first], moved, tile.shape)
        for number in others:
            score = _warp(planes[number], moved, tile.shape)
            np.copyto(tile, np.uint8(number), where=score > best)
            cv2.max(best, score, best)
    return label


def _classes_in_tiles(
    scores: np.ndarray, matrix: np.ndarray, tops: np.ndarray, lefts: np.ndarray, step: int
) -> np.ndarray:
    """Returns bool `[tiles down, tiles across, C]`: which classes may be the highest in a tile."""
    last = scores.shape[0] - 1
    # Of the grid, about the middle of each tile: what bilinear reading in it may touch.
    reach = math.ceil(np.abs(matrix[:, :2]).sum(axis=1).max() * (step - 1) / 2 + 0.5)
    middle_x, middle_y = np.meshgrid(lefts + (step - 1) / 2, tops + (step - 1) / 2)
    x, y = (
        np.clip(np.rint(of_x * middle_x + of_y * middle_y + offset), 0, last).astype(int)
        for of_x, of_y, offset in matrix
    )
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    highest, lowest = (
        change(scores, kernel).reshape(scores.shape)[y, x] for change in (cv2.dilate, cv2.erode)
    )
    return highest >= lowest.max(axis=-1, keepdims=True)


def _warp(scores: np.ndarray, matrix: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    return cv2.warpAffine(
        np.ascontiguousarray(scores),
        matrix,
        (hw[1], hw[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _moved(matrix: np.ndarray, x: float, y: float) -> np.ndarray:
    """Returns the matrix for pixels counted from (x, y)."""
    return np.column_stack([matrix[:, :2], matrix @ (x, y, 1.0)])
