"""Regions of a face that no class is: forehead, cheeks, chin, under the eyes.

They are parts of the skin, bounded by lines in a frame of the face's own: from between the eyes (0)
to the mouth (1), whichever way the face lies. The frame comes from the label map's parts, or from
landmarks where glasses or hair hide the eyes.
"""

import dataclasses

import numpy as np

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError

REGIONS = (
    "forehead",
    "left_cheek",
    "right_cheek",
    "chin",
    "under_left_eye",
    "under_right_eye",
)

# Parts under the names that the label sets give them.
SKIN = ("skin", "face_skin")
NOSE = ("nose",)
LIPS = ("u_lip", "l_lip", "upper_lip", "lower_lip", "top_lip", "bottom_lip")
MOUTH = (*LIPS, "mouth", "inner_mouth", "mouth_interior")
# The names of the left and of the right one.
EYES = (("l_eye", "left_eye"), ("r_eye", "right_eye"))
BROWS = (("l_brow", "left_brow"), ("r_brow", "right_brow"))

# Where a part is not seen: lengths in the frame, from faces of CelebAMask-HQ.
_BROW_HEIGHT = -0.3
_EYE_HALF_WIDTH, _EYE_BOTTOM = 0.27, 0.1
_NOSE_HALF_WIDTH = 0.3
# Of what is called under the eye.
_UNDER_EYE = 0.25
# Shares of a part's pixels that lie before its edges, for a few wrong ones not to move them.
_EDGES = (0.03, 0.97)


def regions_of(label_set: LabelSet) -> tuple[str, ...]:
    """Returns the regions that can be found under a label set, all or none, sorted."""
    classes = {*label_set.classes}
    has_frame = {*MOUTH} & classes and any({*names} & classes for names in (*EYES, *BROWS))
    return tuple(sorted(REGIONS)) if {*SKIN} & classes and has_frame else ()


def region_of(
    name: str, label: np.ndarray, label_set: LabelSet, landmarks: np.ndarray | None = None
) -> np.ndarray:
    """Returns bool `[H, W]`: a region of one face. It is empty where the face's frame is not seen.

    Args:
      name: one of `REGIONS`; left and right are the subject's, whatever the set's names mean.
      label: uint8 `[H, W]`, the face's labels, background elsewhere.
      label_set: their meaning.
      landmarks: float `[N, 2]`, x and y in pixels from the top left corner: the subject's right
        eye, left eye, and of five or more the mouth's corners as fourth and fifth; or None.

    Raises:
      UserError: where there is no such region, or the set has no skin, eyes or mouth.
    """
    if name not in regions_of(label_set):
        there_are = ", ".join(regions_of(label_set)) or "none with these classes"
        raise UserError(f"there is no region {name!r}; there are {there_are}.")
    parts = _Parts(label, label_set)
    region = np.zeros(label.shape, bool)
    frame = _frame(parts, landmarks)
    if frame is None:
        return region
    skin = parts.points(SKIN)
    x, y = frame.of(skin)
    inside = _bounds(name, frame, parts)(x, y)
    columns, rows = skin[inside].astype(np.intp).T  # Down, from the middles of pixels.
    region[rows, columns] = True
    return region


class _Parts:
    """Where a face's parts are."""

    def __init__(self, label: np.ndarray, label_set: LabelSet):
        self._label = label
        self._classes = label_set.classes
        self._is_image_left = label_set.left_is == "image"

    def points(self, names) -> np.ndarray:
        """Returns float64 `[N, 2]`, x and y of the middles of pixels."""
        labels = [self._classes.index(name) for name in names if name in self._classes]
        rows, columns = np.nonzero(np.isin(self._label, labels))
        return np.stack([columns, rows], axis=1) + 0.5

    def left_and_right(self, names) -> tuple[np.ndarray, np.ndarray]:
        """Returns the points of the subject's left one and of its right one."""
        left, right = map(self.points, names)
        return (right, left) if self._is_image_left else (left, right)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """x towards the subject's left, y from between the eyes, at 0, to the mouth, at 1."""

    origin: np.ndarray
    x_axis: np.ndarray
    y_axis: np.ndarray
    unit: float

    def of(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns x and y, each `[N]`, of points `[N, 2]`."""
        moved = (points - self.origin) / self.unit
        return moved @ self.x_axis, moved @ self.y_axis

    def edges(self, points: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Returns least and greatest x, least and greatest y of a part; None of no part."""
        if not len(points):
            return None
        return tuple(tuple(np.quantile(axis, _EDGES)) for axis in self.of(points))


def _frame(parts: _Parts, landmarks: np.ndarray | None) -> _Frame | None:
    """Returns the face's frame; None where eyes and brows, or the mouth, are not seen."""
    mouth = parts.points(MOUTH)
    if len(mouth):
        mouth = mouth.mean(axis=0)
    elif landmarks is not None and len(landmarks) >= 5:
        mouth = landmarks[3:5].mean(axis=0)
    else:
        return None
    eyes, brows = parts.left_and_right(EYES), parts.left_and_right(BROWS)
    if all(map(len, eyes)):
        left, right = (points.mean(axis=0) for points in eyes)
    elif landmarks is not None:
        right, left = np.asarray(landmarks[:2], np.float64)
    elif all(map(len, brows)):
        # Brows lie as far above the eyes as `_BROW_HEIGHT` says.
        share = -_BROW_HEIGHT / (1 - _BROW_HEIGHT)
        left, right = (points.mean(axis=0) for points in brows)
        down = share * (mouth - (left + right) / 2)
        left, right = left + down, right + down
    else:
        return None
    origin = (left + right) / 2
    unit = float(np.hypot(*(mouth - origin)))
    if unit < 1:
        return None
    y_axis = (mouth - origin) / unit
    x_axis = np.array([y_axis[1], -y_axis[0]])
    if (left - right) @ x_axis < 0:  # A mirrored photograph.
        x_axis = -x_axis
    return _Frame(origin, x_axis, y_axis, unit)


def _bounds(name: str, frame: _Frame, parts: _Parts):
    """Returns a function that says of x and y, each `[N]`, which skin is of a region."""
    if name == "forehead":
        brows = np.concatenate(parts.left_and_right(BROWS))
        height = np.median(frame.of(brows)[1]) if len(brows) else _BROW_HEIGHT
        return lambda x, y: y < height
    if name == "chin":
        mouth = frame.edges(parts.points(MOUTH))
        if mouth is None:
            return lambda x, y: np.zeros(x.shape, bool)
        (first, last), (_, bottom) = mouth
        return lambda x, y: (y > bottom) & (first <= x) & (x <= last)
    side = 1 if "left" in name else -1
    eye = frame.edges(parts.left_and_right(EYES)[0 if side > 0 else 1])
    if eye is None:
        # As far from the nose as faces' eyes are.
        middle = side * 2 * _EYE_HALF_WIDTH
        eye = (middle - _EYE_HALF_WIDTH, middle + _EYE_HALF_WIDTH), (None, _EYE_BOTTOM)
    (first, last), (_, bottom) = eye
    if name.startswith("under"):
        return lambda x, y: (bottom < y) & (y <= bottom + _UNDER_EYE) & (first <= x) & (x <= last)
    nose = frame.edges(parts.points(NOSE))
    # The nose's edge on that side, between the eyes' middle and the cheek.
    edge = _NOSE_HALF_WIDTH if nose is None else max(side * end for end in nose[0])
    return lambda x, y: (side * x > edge) & (y > bottom + _UNDER_EYE) & (y <= 1)
