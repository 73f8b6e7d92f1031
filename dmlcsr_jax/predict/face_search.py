"""Faces of any size and turn, by a detector that knows upright ones of a limited size.

The photograph is looked at reduced, for large faces; as it is, for small ones, unless one face
takes a good part of it; and turned either way, where the upright view finds none or leaves doubt.
docs/results.md has the figures.
"""

import math
from collections.abc import Callable, Iterable

import cv2
import numpy as np

from dmlcsr_jax.predict.libfacedetection_private import Found

# Of the reduced view's longer side, pixels: faces of 24 pixels and more are found in it.
_REDUCED_SIDE = 640
# Of the largest view's: larger photographs are reduced to it.
_LARGEST_SIDE = 2048
# Larger faces are left to the reduced view: at full size the detector sees faces in parts of them.
_LARGEST_FACE = 160
# A face of this share of the photograph's longer side makes it a portrait.
_PORTRAIT = 0.3
_TURNS = (-45, 45)
_LEAST_SCORE = 0.6
# Below it a face may be turned; from 30 degrees on most are.
_CERTAIN_SCORE = 0.85
# Two finds are one face where they share this much of the smaller one.
_SAME_FACE = 0.5


class FaceSearch:
    """Looks for faces in several views of a photograph.

    Args:
      detect: finds the upright faces in a picture, uint8 `[H, W, 3]` RGB.
    """

    def __init__(self, detect: Callable[[np.ndarray], Iterable[Found]]):
        """Keeps the detector."""
        self._detect = detect

    def __call__(self, image: np.ndarray) -> list[Found]:
        """Returns the faces, the surest first.

        Args:
          image: uint8 `[H, W, 3]` RGB.
        """
        longer = max(image.shape[:2])
        reduced = min(1.0, _REDUCED_SIDE / longer)
        found = self._in_views(image, reduced, math.inf)
        sides = (_side(box) for box, score, _ in found if score >= _LEAST_SCORE)
        is_portrait = max(sides, default=0) > _PORTRAIT * longer
        if reduced < 1 and not is_portrait:
            found += self._in_views(image, min(1.0, _LARGEST_SIDE / longer), _LARGEST_FACE)
        return _distinct([one for one in found if one[1] >= _LEAST_SCORE])

    def _in_views(self, image: np.ndarray, scale: float, largest: float) -> list[Found]:
        """Looks at the photograph at one scale, turned too where that may find more."""
        found = self._in_view(image, scale, 0, largest)
        if not found or min(score for _, score, _ in found) < _CERTAIN_SCORE:
            for turn in _TURNS:
                found += self._in_view(image, scale, turn, largest)
        return found

    def _in_view(self, image: np.ndarray, scale: float, turn: float, largest: float) -> list[Found]:
        """Returns what is found in one view, in the photograph's pixels.

        Args:
          image: uint8 `[H, W, 3]` RGB.
          scale: of the view, at most 1.
          turn: of the view, degrees clockwise.
          largest: longer side of the largest face that counts, pixels of the view.
        """
        hw = image.shape[:2]
        if scale < 1:
            size = (max(1, round(hw[1] * scale)), max(1, round(hw[0] * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        matrix = _turn_matrix(image.shape[:2], turn)
        if turn:
            corner = np.array([image.shape[1], image.shape[0]]) @ np.abs(matrix[:, :2]).T
            size = tuple(int(side) for side in np.ceil(corner))
            image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
        back = np.linalg.inv(matrix[:, :2])
        found = []
        for box, score, landmarks in self._detect(image):
            if not 0 < _side(box) <= largest:
                continue
            half = np.subtract(box[2:], box[:2]) / 2
            centre = back @ (np.add(box[:2], box[2:]) / 2 - matrix[:, 2])
            if landmarks is not None:
                landmarks = (landmarks - matrix[:, 2]) @ back.T / scale
            edges = np.concatenate([centre - half, centre + half]) / scale
            if (edges[:2] < hw[::-1]).all() and (edges[2:] > 0).all():
                found.append((tuple(edges.tolist()), score, landmarks))
        return found


def _turn_matrix(hw: tuple[int, int], degrees: float) -> np.ndarray:
    """Returns float64 `[2, 3]`: the turn of a picture about its centre into one that holds it."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear = np.array([[cos, -sin], [sin, cos]])
    size = np.array([hw[1], hw[0]], np.float64)
    return np.column_stack([linear, np.abs(linear) @ size / 2 - linear @ size / 2])


def _side(box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _distinct(found: list[Found]) -> list[Found]:
    """Returns the surest find of each face."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one[1]):
        if all(_shared(one[0], other[0]) < _SAME_FACE for other in kept):
            kept.append(one)
    return kept


def _shared(a, b) -> float:
    """Returns the area that two boxes share, as a share of the smaller one."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0) * max(height, 0) / smaller
