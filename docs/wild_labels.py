"""What the labels of the field's sets mean in CelebAMask-HQ's classes: groups, and points drawn."""

import dataclasses
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from dmlcsr_jax.data.decode import read_bytes
from dmlcsr_jax.data.label_sets import BACKGROUND, CELEBAMASK_HQ, LabelSet
from dmlcsr_jax.errors import UserError

NUM_POINTS = 68
# iBUG's order; the eye at image-left is the subject's right one.
BROW_POINTS = slice(17, 27)
_EYE_POINTS = (slice(36, 42), slice(42, 48))
_OUTER_LIP_POINTS = slice(48, 60)


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Labels that allow several classes of CelebAMask-HQ.

    A class that several groups allow is right under each of them, and is the first one's where it
    is right under none.

    Attributes:
      label_set: the groups; a group's place is its label.
      table: uint8 `[256]`, the first group that allows a class.
      allowed: bool `[groups, 256]`.
    """

    label_set: LabelSet
    table: np.ndarray
    allowed: np.ndarray

    def judged(self, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Returns uint8 `[H, W]`, the groups that classes are counted as.

        Args:
          prediction: uint8 `[H, W]`, classes of CelebAMask-HQ.
          label: uint8 `[H, W]`, true groups and the ignore label.
        """
        known = label != self.label_set.ignore_label
        is_right = known & self.allowed[np.where(known, label, 0), prediction]
        return np.where(is_right, label, self.table[prediction])


def groups_of(name: str, background: Sequence[str] = (), **members: Sequence[str]) -> Groups:
    """Returns groups of CelebAMask-HQ's classes and the background, which has all they leave.

    Args:
      name: the set's.
      background: what the background allows beside that.
      members: what each group allows.
    """
    names = [BACKGROUND, *members]
    table, allowed = np.zeros(256, np.uint8), np.zeros((len(names), 256), bool)
    for group, classes in reversed(list(enumerate(members.values(), 1))):
        labels = [CELEBAMASK_HQ.classes.index(part) for part in classes]
        table[labels], allowed[group, labels] = group, True
    allowed[0] = table == 0
    allowed[0, [CELEBAMASK_HQ.classes.index(part) for part in background]] = True
    grey = tuple((value, value, value) for value in range(len(names)))
    return Groups(LabelSet(name, tuple(names), (), "none", grey), table, allowed)


BROWS = ("l_brow", "r_brow")
_EYES, _LIPS = ("l_eye", "r_eye"), ("mouth", "u_lip", "l_lip")
# What hangs on ear or neck is labelled through, as skin or as the clothes behind it.
_JEWELLERY = ("ear_r", "neck_l")
_SKIN = ("skin", "l_ear", "r_ear", "neck", *_JEWELLERY)

LFW_PARTS = groups_of(
    "lfw_parts",
    _JEWELLERY,
    face=(*_SKIN, "nose", "eye_g", *_EYES, *BROWS, *_LIPS),
    hair=("hair",),
)
FIGARO = groups_of("figaro", hair=("hair",))
FASSEG = groups_of(
    "fasseg",
    _JEWELLERY,
    skin=(*_SKIN, "eye_g"),
    hair_and_brows=("hair", *BROWS),
    eyes=(*_EYES, "eye_g"),
    nose=("nose",),
    mouth=_LIPS,
)
POINTS = groups_of("points", eyes=_EYES, mouth=_LIPS)


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
    """Returns the label map of `POINTS`: pixels within or on the polygons of eyes and outer lips.

    Args:
      points: float `[68, 2]`, x and y; pixel centres are at whole numbers.
      hw: height and width.

    Returns:
      uint8 `[H, W]`.
    """
    label = np.zeros(hw, np.uint8)
    corners = np.rint(points).astype(np.int32)
    for eye in _EYE_POINTS:
        cv2.fillPoly(label, [corners[eye]], 1)
    cv2.fillPoly(label, [corners[_OUTER_LIP_POINTS]], 2)
    return label


def labels_at(points: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns uint8 `[N]`, the labels of the pixels below points; of those that leave it none.

    Args:
      points: float `[P, 2]`, x and y.
      label: uint8 `[H, W]`.
    """
    x, y = np.rint(points).astype(int).T
    within = (x >= 0) & (y >= 0) & (x < label.shape[1]) & (y < label.shape[0])
    return label[y[within], x[within]]
