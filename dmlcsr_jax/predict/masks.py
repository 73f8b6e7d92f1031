"""Masks of parts and of groups of parts, and photographs cut out by them."""

from collections.abc import Iterable, Sequence

import numpy as np

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.regions import BROWS, EYES, LIPS, MOUTH, NOSE, SKIN, regions_of

_EYES = (*EYES[0], *EYES[1])
_BROWS = (*BROWS[0], *BROWS[1])
_EARS = ("l_ear", "r_ear", "left_ear", "right_ear")
_GLASSES = ("eye_g", "glasses")
_FACE = (*SKIN, *NOSE, "beard", *_EYES, *_BROWS, *MOUTH)
# Under the names that the label sets give them; a set has a group where it has one of its classes.
GROUPS = {
    "lips": LIPS,
    "eyes": _EYES,
    "brows": _BROWS,
    "ears": _EARS,
    "face": _FACE,
    "face_and_ears": (*_FACE, *_EARS),
    "face_and_glasses": (*_FACE, *_GLASSES),
    "head": (*_FACE, *_EARS, "ear_r", *_GLASSES, "hair", "hat", "headwear", "facewear"),
}
ALL = "all"


def labels_of(part: str, label_set: LabelSet) -> tuple[int, ...]:
    """Returns the labels of a class or a group.

    Args:
      part: a class of the set; or one of `GROUPS`, of which the set has a class.
      label_set: meaning of the labels.

    Raises:
      UserError: where there is no such part.
    """
    classes = label_set.classes
    if part in classes:
        return (classes.index(part),)
    labels = tuple(classes.index(name) for name in GROUPS.get(part, ()) if name in classes)
    if not labels:
        groups = [name for name, of in GROUPS.items() if name not in classes and {*of} & {*classes}]
        names = (*classes, *groups, *regions_of(label_set))
        raise UserError(f"there is no part {part!r}; there are {', '.join(names)}.")
    return labels


def parts_of(names: Sequence[str], label_set: LabelSet) -> tuple[str, ...]:
    """Returns the parts that are named, each once and sorted; "all": every class but background.

    Regions of the skin are parts too, if they are named; see `regions`.

    Raises:
      UserError: where there is no such part.
    """
    background = label_set.background
    every = [name for label, name in enumerate(label_set.classes) if label != background]
    parts = {part for name in names for part in (every if name == ALL else [name])}
    for part in parts:
        if not is_region(part, label_set):
            labels_of(part, label_set)
    return tuple(sorted(parts))


def is_region(part: str, label_set: LabelSet) -> bool:
    """Returns whether a part is a region of the skin, and no class or group of the set."""
    return part in regions_of(label_set) and part not in label_set.classes


def mask_of(label: np.ndarray, labels: Iterable[int]) -> np.ndarray:
    """Returns bool, of the shape of uint8 `label`: where it is one of some labels."""
    table = np.zeros(256, bool)
    table[list(labels)] = True
    return table[label]


def cut_out(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Returns uint8 `[H, W, 4]` RGBA: a photograph as opaque as a mask says.

    Colours stay below what is transparent, so that an edge can be moved later.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      alpha: uint8 `[H, W]`.
    """
    return np.dstack([image, alpha])
