"""Views of a photograph in which faces are looked for: reduced, in tiles, turned, close."""

import math
from typing import NamedTuple

import cv2
import numpy as np

# Tiles overlap by more than the largest face that counts in them.
_TILE, _OVERLAP = 1536, 192
# A close view: the face's longer side, and the view's, pixels.
_CLOSE_FACE, _CLOSE_SIDE = 48, 128


class View(NamedTuple):
    """A picture of a photograph, or of a part of it.

    Attributes:
      image: uint8 `[h, w, 3]` RGB.
      matrix: float64 `[2, 3]`, from the photograph's x and y to the view's, both from the top left
        pixel's top left corner.
      turn: of the view, degrees clockwise.
    """

    image: np.ndarray
    matrix: np.ndarray
    turn: float = 0


def reduced(image: np.ndarray, scale: float) -> View:
    """Returns the complete photograph reduced; itself, not copied, at scale 1."""
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    matrix = np.array([[size[0] / width, 0, 0], [0, size[1] / height, 0]], np.float64)
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return View(image, matrix)


def tiles(view: View) -> list[View]:
    """Returns parts of an unturned view that overlap, not copied; the view where it is small."""
    height, width = view.image.shape[:2]
    parts = []
    for top, bottom in _spans(height):
        for left, right in _spans(width):
            matrix = view.matrix.copy()
            matrix[:, 2] -= (left, top)
            parts.append(View(view.image[top:bottom, left:right], matrix))
    return parts


def _spans(length: int) -> list[tuple[int, int]]:
    """Returns spans of one length, as few as cover `length`."""
    count = max(1, math.ceil((length - _OVERLAP) / (_TILE - _OVERLAP)))
    side = math.ceil((length + (count - 1) * _OVERLAP) / count)
    starts = [round(k * (length - side) / max(1, count - 1)) for k in range(count)]
    return [(start, start + side) for start in starts]


def turned(view: View, degrees: float) -> View:
    """Returns a view turned clockwise, as large as holds it all."""
    height, width = view.image.shape[:2]
    size = np.abs(_turn(degrees)) @ (width, height)
    return _turned(view, degrees, (math.ceil(size[0] - 1e-6), math.ceil(size[1] - 1e-6)))


def turned_inside(view: View, degrees: float) -> View:
    """Returns a view turned clockwise about its middle, of the same size."""
    return _turned(view, degrees, view.image.shape[1::-1])


def close(image: np.ndarray, box) -> View:
    """Returns a face and what is around it, the face at one size; black beyond the photograph."""
    scale = _CLOSE_FACE / max(box[2] - box[0], box[3] - box[1])
    centre = np.add(box[:2], box[2:]) / 2
    half = _CLOSE_SIDE / 2 / scale
    low = np.maximum(np.floor(centre - half), 0).astype(int)
    high = np.minimum(np.ceil(centre + half), image.shape[1::-1]).astype(int)
    part = reduced(image[low[1] : high[1], low[0] : high[0]], min(scale, 1.0))
    part.matrix[:, 2] = -part.matrix[:, :2] @ low
    linear = np.eye(2) * scale
    matrix = np.column_stack([linear, _CLOSE_SIDE / 2 - linear @ centre])
    return _warped(part, matrix, (_CLOSE_SIDE, _CLOSE_SIDE), 0)


def _turn(degrees: float) -> np.ndarray:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def _turned(view: View, degrees: float, size: tuple[int, int]) -> View:
    """Returns a view turned about its middle, which comes to the middle of the new one."""
    linear = _turn(degrees)
    matrix = linear @ view.matrix
    matrix[:, 2] += np.array(size) / 2 - linear @ (np.array(view.image.shape[1::-1]) / 2)
    return _warped(view, matrix, size, view.turn + degrees)


def _warped(view: View, matrix: np.ndarray, size: tuple[int, int], turn: float) -> View:
    """Returns the view of a matrix and size, made from another view's pixels."""
    linear = matrix[:, :2] @ np.linalg.inv(view.matrix[:, :2])
    offset = matrix[:, 2] - linear @ view.matrix[:, 2]
    # OpenCV counts from the first pixel's middle.
    offset += linear @ (0.5, 0.5) - 0.5
    way = np.column_stack([linear, offset])
    return View(cv2.warpAffine(view.image, way, size, flags=cv2.INTER_LINEAR), matrix, turn)
