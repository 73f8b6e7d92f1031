"""From one set's labels to another's: train on one, evaluate on another.

Sets are compared in a common set of parts, whose left is the image's left. There are two:
`common`, the eleven parts that every set has, and `common_extended`, with the ears, neck, clothes,
glasses and hats that CelebAMask-HQ and FaceSynthetics tell apart.

A class goes over in two ways, for a label and a prediction are not the same statement. A *label*
whose class has no counterpart is ignored: nothing is scored where it lies. A *prediction* must be
some part, so that it counts as wrong where it is; it becomes the part that such pixels mostly are.

A set whose labels are groups of another's classes (`LabelSet.means`) is compared in those groups.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.label_sets import COMMON, COMMON_EXTENDED, LabelSet
from dmlcsr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class No:
    """Says that a class has no counterpart.

    Attributes:
      prediction: the part for which it is taken where it was predicted.
    """

    prediction: str


# Helen's face skin leaves the ears out (background), LaPa's holds them; neither can be undone.
# Ears of the other sets are therefore ignored, and where predicted are skin. Both sets' background
# holds hat, neck, clothes and jewellery. What lies below glasses they label as if there were none.
_HELEN_TO_COMMON = {name: name for name in COMMON.classes if name != "skin"} | {"face_skin": "skin"}
_LAPA_TO_COMMON = {name: name for name in COMMON.classes}

# CelebAMask-HQ's l_ and r_ are the subject's: its left eye is on the image's right.
_CELEBAMASK_HQ_TO_EXTENDED = {
    "background": "background",
    "skin": "skin",
    "nose": "nose",
    "eye_g": "glasses",
    "l_eye": "right_eye",
    "r_eye": "left_eye",
    "l_brow": "right_brow",
    "r_brow": "left_brow",
    "l_ear": "right_ear",
    "r_ear": "left_ear",
    "mouth": "inner_mouth",
    "u_lip": "upper_lip",
    "l_lip": "lower_lip",
    "hair": "hair",
    "hat": "hat",
    # FaceSynthetics has no jewellery: whatever wears it is labelled through.
    "ear_r": No("background"),
    "neck_l": No("neck"),
    "neck": "neck",
    "cloth": "cloth",
}
_CELEBAMASK_HQ_TO_COMMON = _CELEBAMASK_HQ_TO_EXTENDED | {
    "eye_g": No("skin"),
    "l_ear": No("skin"),
    "r_ear": No("skin"),
    "hat": "background",
    "ear_r": "background",
    "neck_l": "background",
    "neck": "background",
    "cloth": "background",
}

_FACE_SYNTHETICS_TO_EXTENDED = {
    "background": "background",
    "skin": "skin",
    "nose": "nose",
    "right_eye": "right_eye",
    "left_eye": "left_eye",
    "right_brow": "right_brow",
    "left_brow": "left_brow",
    "right_ear": "right_ear",
    "left_ear": "left_ear",
    "mouth_interior": "inner_mouth",
    "top_lip": "upper_lip",
    "bottom_lip": "lower_lip",
    "neck": "neck",
    "hair": "hair",
    # In all other sets a beard is skin.
    "beard": "skin",
    "clothing": "cloth",
    "glasses": "glasses",
    "headwear": "hat",
    # Masks and veils: the other sets have none worth learning.
    "facewear": No("background"),
}
_FACE_SYNTHETICS_TO_COMMON = _FACE_SYNTHETICS_TO_EXTENDED | {
    "right_ear": No("skin"),
    "left_ear": No("skin"),
    "neck": "background",
    "clothing": "background",
    "glasses": No("skin"),
    "headwear": "background",
}

_EXTENDED_TO_COMMON = {name: name for name in COMMON.classes} | {
    "left_ear": No("skin"),
    "right_ear": No("skin"),
    "neck": "background",
    "cloth": "background",
    "glasses": No("skin"),
    "hat": "background",
}

TABLES: dict[tuple[str, str], Mapping[str, str | No]] = {
    ("helen", "common"): _HELEN_TO_COMMON,
    ("lapa", "common"): _LAPA_TO_COMMON,
    ("celebamask_hq", "common"): _CELEBAMASK_HQ_TO_COMMON,
    ("celebamask_hq", "common_extended"): _CELEBAMASK_HQ_TO_EXTENDED,
    ("face_synthetics", "common"): _FACE_SYNTHETICS_TO_COMMON,
    ("face_synthetics", "common_extended"): _FACE_SYNTHETICS_TO_EXTENDED,
    ("common_extended", "common"): _EXTENDED_TO_COMMON,
}


@dataclasses.dataclass(frozen=True, eq=False)
class LabelMap:
    """Lookup tables from the labels of one set to those of another.

    Attributes:
      source: the set that labels are mapped from.
      target: the set that they are mapped to.
      labels: uint8 `[256]`, for true labels; what has no counterpart, what is no class of the
        source, and the source's ignore label become the target's ignore label.
      predictions: uint8 `[256]`, for predicted labels; each class of the source becomes a class.
    """

    source: LabelSet
    target: LabelSet
    labels: np.ndarray
    predictions: np.ndarray


def label_map(source: LabelSet, target: LabelSet) -> LabelMap:
    """Returns the tables that map the labels of one set to those of another.

    Args:
      source: a set that `TABLES` has.
      target: one that it is mapped to there, the source itself, or a set of groups of its classes;
        a class of several groups becomes the first.

    Raises:
      UserError: where no table leads from one to the other.
    """
    if source.classes == target.classes and source.left_is == target.left_is:
        table = {name: name for name in source.classes}
    elif target.means_in == source.name:
        table = _to_groups(source, target)
    elif (source.name, target.name) in TABLES:
        table = TABLES[source.name, target.name]
    else:
        pairs = ", ".join(f"{a} to {b}" for a, b in TABLES)
        raise UserError(
            f"there is no table from the labels of {source.name!r} to those of {target.name!r}; "
            f"the tables are {pairs}."
        )
    labels = np.full(256, target.ignore_label, np.uint8)
    predictions = labels.copy()
    for label, name in enumerate(source.classes):
        part = table[name]
        if isinstance(part, No):
            predictions[label] = target.classes.index(part.prediction)
        else:
            labels[label] = predictions[label] = target.classes.index(part)
    return LabelMap(source, target, labels, predictions)


def _to_groups(source: LabelSet, target: LabelSet) -> dict[str, str]:
    table: dict[str, str] = {}
    for group, classes in target.means.items():
        table = dict.fromkeys(classes, group) | table
    if missing := set(source.classes) - set(table):
        raise UserError(
            f"no label of {target.name!r} means {min(missing)!r} of {source.name!r}; add it to the "
            "group where such pixels are."
        )
    return table


def shared_label_set(first: LabelSet, second: LabelSet) -> LabelSet:
    """Returns the set of parts in which two sets are compared: the finest that both map to.

    Raises:
      UserError: where there is none.
    """
    if first.classes == second.classes and first.left_is == second.left_is:
        return second
    for groups, other in ((first, second), (second, first)):
        if groups.means_in == other.name:
            return groups
    for target in (COMMON_EXTENDED, COMMON):
        if all(s.name == target.name or (s.name, target.name) in TABLES for s in (first, second)):
            return target
    known = [name for name in label_sets.LABEL_SETS if (name, COMMON.name) in TABLES]
    raise UserError(
        f"the labels of {first.name!r} and {second.name!r} cannot be compared; those of "
        f"{', '.join(known)} can be with each other."
    )
