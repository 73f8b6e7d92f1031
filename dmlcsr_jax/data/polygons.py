"""Masks as polygons, the way labelling tools keep them, and back."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

# Most that an outline is moved to have fewer points, pixels.
_TOLERANCE = 0.5


def polygons_of(mask: np.ndarray, tolerance: float = _TOLERANCE) -> list[np.ndarray]:
    """Returns the outlines of a mask, a polygon a piece, holes cut out by a slit of no width.

    Args:
      mask: bool `[H, W]`.
      tolerance: most that an outline is moved, pixels; 0 keeps every pixel.

    Returns:
      int32 `[N, 2]` each, N of 3 or more: x and y, 0 the first pixel's middle. What a polygon's
      edges go through is of the piece too.
    """
    outlines, tree = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    if tree is None:
        return []
    rounded = [_with_fewer_points(outline[:, 0], tolerance) for outline in outlines]
    # Of each outline: the next one, the one before, its first hole, what it is a hole of.
    parents = tree[0, :, 3]
    pieces = []
    for piece in np.flatnonzero(parents < 0):
        polygon = rounded[piece]
        for hole in np.flatnonzero(parents == piece):
            polygon = _cut(polygon, rounded[hole])
        # Of one pixel, or of a line of them.
        pieces.append(np.resize(polygon, (max(3, len(polygon)), 2)))
    return pieces


def mask_of(polygons: Iterable[np.ndarray], hw: tuple[int, int]) -> np.ndarray:
    """Returns bool `[H, W]`: what polygons cover, their edges too; what lies outside is left out.

    Args:
      polygons: `[N, 2]` each, x and y, 0 the first pixel's middle.
      hw: height and width.
    """
    mask = np.zeros(hw, np.uint8)
    limit = 4 * max(hw)  # OpenCV's own numbers overflow at some point.
    for polygon in polygons:
        points = np.clip(np.rint(np.asarray(polygon, np.float64)), -limit, limit)
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    return mask.astype(bool)


def _with_fewer_points(outline: np.ndarray, tolerance: float) -> np.ndarray:
    if not tolerance or len(outline) < 4:
        return outline
    fewer = cv2.approxPolyDP(outline[:, None], tolerance, True)[:, 0]
    return fewer if len(fewer) >= 3 else outline


def _cut(polygon: np.ndarray, hole: Sequence) -> np.ndarray:
    """Returns a polygon that goes to a hole where it is nearest, around it, and back."""
    distances = ((polygon[:, None] - hole[None]) ** 2).sum(axis=2)
    at, start = np.unravel_index(distances.argmin(), distances.shape)
    around = np.roll(hole, -start, axis=0)
    return np.concatenate([polygon[: at + 1], around, around[:1], polygon[at:]])
