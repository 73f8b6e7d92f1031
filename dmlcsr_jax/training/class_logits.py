"""Which classes of two label sets mean the same, to start one's logits from the other's."""

import numpy as np

from dmlcsr_jax.data.label_maps import label_map, shared_label_set
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError

# The tensors whose last axis is the classes, by the ends of their names.
_NAMES = tuple(
    f"/{head}/{tensor}"
    for head in ("parsing/logits", "edge/category_logits")
    for tensor in ("kernel", "bias")
)


def is_of_classes(name: str) -> bool:
    """Says whether a tensor's last axis is the classes."""
    return name.endswith(_NAMES)


def counterparts(theirs: LabelSet, ours: LabelSet) -> dict[int, int]:
    """Returns, for our classes that have one, their first class of the same meaning.

    Where both sets map to common parts, those decide; otherwise the names do, but left and right
    only where both sets mean the same side.
    """
    if theirs == ours:
        return {label: label for label in range(ours.num_classes)}
    try:
        parts = shared_label_set(theirs, ours)
    except UserError:
        sided = {label for pair in ours.mirror_pairs for label in pair}
        return {
            label: theirs.classes.index(name)
            for label, name in enumerate(ours.classes)
            if name in theirs.classes and (label not in sided or theirs.left_is == ours.left_is)
        }
    their_parts = label_map(theirs, parts).labels[: theirs.num_classes].tolist()
    our_parts = label_map(ours, parts).labels[: ours.num_classes].tolist()
    return {
        label: their_parts.index(part)
        for label, part in enumerate(our_parts)
        if part != parts.ignore_label and part in their_parts
    }


def take_classes(
    fresh: np.ndarray, theirs: np.ndarray, counterparts: dict[int, int]
) -> np.ndarray | None:
    """Returns the fresh tensor with their classes put in; None where the other axes differ."""
    if fresh.shape[:-1] != theirs.shape[:-1]:
        return None
    taken = np.array(fresh)
    taken[..., list(counterparts)] = np.asarray(theirs)[..., list(counterparts.values())]
    return taken
