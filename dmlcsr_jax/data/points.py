"""Weak labels from 68 points on a face: pixels that are surely a part, and all else unknown."""

import os
import pathlib

import cv2
import numpy as np

from dmlcsr_jax.data.decode import decode_image, read_bytes
from dmlcsr_jax.data.label_sets import IBUG_68
from dmlcsr_jax.errors import UserError

NUM_POINTS = 68
# iBUG's order, by the labels of IBUG_68: the right eye and brow, the subject's, are at image-left.
_BROWS = {"r_brow": slice(17, 22), "l_brow": slice(22, 27)}
_EYES = {"r_eye": slice(36, 42), "l_eye": slice(42, 48)}
_NOSE, _MOUTH = slice(27, 36), slice(48, 60)
# Label maps are drawn finer than the photograph: an eye of a small face is a few pixels high.
_FINER = 2
# Shares of the face's size, the root of its area.
_LINE = 0.03  # thickness of a brow
_UNSURE = 0.05  # reach of what may still be the part
_OTHER = 0.12  # reach of what is surely none of the parts


class PointsSource:
    """Photographs of one face each, with its 68 points; see `sources` for what a source is.

    The folder has `images/`, `points.csv` (a photograph's name without its suffix, then x, y of
    each point in pixels) and a list of names `{split}_list.txt`. The label maps are `ibug_68`'s.

    Args:
      root: the folder.
      split: which list.

    Raises:
      UserError: on creation, where a file is missing or not understood; on reading, where a
        photograph is damaged.
    """

    label_set = IBUG_68

    def __init__(self, root: str | os.PathLike, split: str):
        """Reads points and list; no photograph."""
        root = pathlib.Path(root)
        self._folder = root / "images"
        points = read_points(root / "points.csv")
        listed = read_bytes(root / f"{split}_list.txt").decode("utf-8-sig").split()
        names = [pathlib.PurePath(name).name for name in listed]
        self._files = names
        self._points = []
        for name in names:
            stem = pathlib.PurePath(name).stem
            if stem not in points:
                raise UserError(
                    f"{root / 'points.csv'} has no points of {stem}, which {split}_list.txt names; "
                    "take it off the list."
                )
            self._points.append(points[stem])
        if not names:
            raise UserError(f"{root / split}_list.txt lists no example; write one line for each.")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict:
        """Reads photograph `index`; its label is twice its size."""
        file = self._folder / self._files[index]
        image = decode_image(read_bytes(file), str(file))
        return {
            "image": image,
            "label": draw_points(self._points[index], image.shape[:2]),
            "name": file.stem,
        }


def read_points(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns name and points float64 `[68, 2]`, x and y in pixels, of each line of a file.

    Raises:
      UserError: naming the line that is something else.
    """
    points = {}
    for number, line in enumerate(read_bytes(path).decode("utf-8-sig").splitlines(), 1):
        name, *values = line.split(",")
        try:
            points[name] = np.array(values, np.float64).reshape(NUM_POINTS, 2)
        except ValueError as error:
            raise UserError(
                f"{path} line {number} is not a name and x, y of {NUM_POINTS} points; fix it."
            ) from error
    return points


def draw_points(points: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Returns the label map that 68 points make sure of.

    Eyes, nose and mouth are the hulls of their points, brows lines along theirs. Around eyes, brows
    and mouth a margin is not known, then follows a ring, inside the face, of what is none of them.

    Args:
      points: float `[68, 2]`, x and y in pixels of the photograph, in iBUG's order.
      hw: the photograph's height and width.

    Returns:
      uint8 `[2 H, 2 W]` of IBUG_68's labels and its ignore label.
    """
    shape = (_FINER * hw[0], _FINER * hw[1])
    points = (points + 0.5) * _FINER - 0.5
    face = _filled(points, shape)
    size = max(np.sqrt(cv2.contourArea(cv2.convexHull(points.astype(np.float32)))), 1.0)
    line = max(1, round(_LINE * size))
    parts = {name: _filled(points[where], shape) for name, where in _EYES.items()}
    for name, where in _BROWS.items():
        parts[name] = np.zeros(shape, np.uint8)
        cv2.polylines(parts[name], [_whole(points[where])], False, 1, line)
    parts["mouth"] = _filled(points[_MOUTH], shape)
    together = np.max(list(parts.values()), axis=0)
    label = np.full(shape, IBUG_68.ignore_label, np.uint8)
    ring = _grown(together, _OTHER * size) & ~_grown(together, _UNSURE * size) & face
    label[ring.astype(bool)] = IBUG_68.background
    label[_filled(points[_NOSE], shape).astype(bool)] = IBUG_68.classes.index("nose")
    for name, mask in parts.items():
        label[mask.astype(bool)] = IBUG_68.classes.index(name)
    return label


def _whole(points: np.ndarray) -> np.ndarray:
    return np.rint(points).astype(np.int32)


def _filled(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    return cv2.fillConvexPoly(mask, cv2.convexHull(_whole(points)), 1)


def _grown(mask: np.ndarray, reach: float) -> np.ndarray:
    side = 2 * round(reach) + 1
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
