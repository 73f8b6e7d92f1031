"""What the labels of the field's sets mean in CelebAMask-HQ's classes: groups, and points drawn."""

import dataclasses

import cv2
import numpy as np

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.label_sets import BACKGROUND, CELEBAMASK_HQ, LabelSet

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


def groups_of(label_set: LabelSet) -> Groups:
    """Returns the groups of a set that says what its labels mean in CelebAMask-HQ's classes."""
    table = np.zeros(256, np.uint8)
    allowed = np.zeros((label_set.num_classes, 256), bool)
    # Backwards, so that the first counts; the background, label 0, has what the others leave.
    for group, name in reversed(list(enumerate(label_set.classes))):
        labels = [CELEBAMASK_HQ.classes.index(part) for part in label_set.means[name]]
        allowed[group, labels] = True
        if group:
            table[labels] = group
    return Groups(label_set, table, allowed)


BROWS = ("l_brow", "r_brow")
LFW_PARTS = groups_of(label_sets.LFW_PARTS)
FIGARO = groups_of(label_sets.FIGARO)
FASSEG = groups_of(label_sets.FASSEG)
_EYES, _LIPS = ("l_eye", "r_eye"), ("mouth", "u_lip", "l_lip")
POINTS = groups_of(
    LabelSet(
        name="points",
        classes=(BACKGROUND, "eyes", "mouth"),
        mirror_pairs=(),
        left_is="none",
        palette=((0, 0, 0), (0, 0, 255), (255, 0, 0)),
        means_in=CELEBAMASK_HQ.name,
        means={
            BACKGROUND: tuple(c for c in CELEBAMASK_HQ.classes if c not in (*_EYES, *_LIPS)),
            "eyes": _EYES,
            "mouth": _LIPS,
        },
    )
)


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
