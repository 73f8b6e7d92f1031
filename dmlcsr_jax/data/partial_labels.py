"""Labels that mean one of several classes: how sets with other labels train one network.

A training batch's label map holds the network's classes, 0 to C-1, and behind them, from C on,
groups: "one of these classes, nobody said which". Every label of a set that is not the network's
own becomes a group, also where it means a single class, so that a label below C comes from a
complete label map: what needs to know where a class is *not* (`losses.objective`) asks for those.
"""

import dataclasses
from collections.abc import Iterable

import cv2
import numpy as np

from dmlcsr_jax.data.label_maps import label_map, shared_label_set
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.subset import read_label
from dmlcsr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class PartialLabels:
    """The network's classes and the groups that follow them.

    Attributes:
      label_set: the network's.
      groups: the classes of each group, mirrored ones too; label `num_classes + i` is group i.
    """

    label_set: LabelSet
    groups: tuple[frozenset[int], ...] = ()

    @classmethod
    def of_sets(cls, label_set: LabelSet, others: Iterable[LabelSet]) -> "PartialLabels":
        """Returns the groups that the labels of other sets need.

        Raises:
          UserError: where a set does not say what it means in the network's classes, or there are
            more classes and groups than label values.
        """
        mirrored = label_set.mirror_table()
        groups: dict[frozenset[int], None] = {}
        for other in others:
            if not is_complete(other, label_set):
                for meaning in meanings(other, label_set):
                    groups[meaning] = groups[frozenset(mirrored[list(meaning)].tolist())] = None
        groups.pop(frozenset(), None)
        if label_set.num_classes + len(groups) > label_set.ignore_label:
            raise UserError(
                f"the label set {label_set.name!r} has {label_set.num_classes} classes and the "
                f"data's sources {len(groups)} groups of them; together there may be "
                f"{label_set.ignore_label}."
            )
        return cls(label_set, tuple(groups))

    @property
    def ignore_label(self) -> int:
        """Label of pixels that count for nothing."""
        return self.label_set.ignore_label

    @property
    def background(self) -> int:
        """Label of what is none of the parts."""
        return self.label_set.background

    def allowed(self) -> np.ndarray:
        """Returns bool `[G, C]`: which classes a pixel of each group may be."""
        allowed = np.zeros((len(self.groups), self.label_set.num_classes), bool)
        for row, group in zip(allowed, self.groups, strict=True):
            row[list(group)] = True
        return allowed

    def mirror_table(self) -> np.ndarray:
        """Returns uint8 `[256]`: the label that each becomes when the image is mirrored."""
        table = self.label_set.mirror_table()
        for number, group in enumerate(self.groups):
            partner = frozenset(table[list(group)].tolist())
            table[self._label(number)] = self._label(self.groups.index(partner))
        return table

    def table(self, source: LabelSet) -> np.ndarray:
        """Returns uint8 `[256]`, from the labels of a set that `of_sets` was given to these.

        A label that may be any class, or none of the network's, becomes the ignore label.
        """
        table = np.full(256, self.ignore_label, np.uint8)
        for label, meaning in enumerate(meanings(source, self.label_set)):
            if 0 < len(meaning) < self.label_set.num_classes:
                table[label] = self._label(self.groups.index(meaning))
        return table

    def _label(self, number: int) -> int:
        return self.label_set.num_classes + number


def is_complete(source: LabelSet, target: LabelSet) -> bool:
    """Returns whether the labels of a set are a network's own classes."""
    return source.classes == target.classes and source.left_is == target.left_is


def meanings(source: LabelSet, target: LabelSet) -> tuple[frozenset[int], ...]:
    """Returns, for each label of a set, which of a network's classes it may be.

    That is what the set itself declares (`LabelSet.means`), or else what `label_maps` knows: the
    classes that become the same part. A class without a counterpart may lie under every label.

    Args:
      source: the set whose labels are to be understood.
      target: the network's.

    Raises:
      UserError: where neither says so.
    """
    if source.means_in == target.name:
        return tuple(
            frozenset(map(target.classes.index, source.means[name])) for name in source.classes
        )
    if source.means_in:
        raise UserError(
            f"the label set {source.name!r} says what its labels mean in {source.means_in!r}, not "
            f"in {target.name!r}, which the network has."
        )
    common = shared_label_set(source, target)
    theirs = label_map(source, common).labels[: source.num_classes]
    ours = label_map(target, common).labels[: target.num_classes]
    anywhere = set(np.flatnonzero(ours == common.ignore_label).tolist())
    everything = frozenset(range(target.num_classes))
    return tuple(
        everything
        if part == common.ignore_label
        else frozenset(anywhere | set(np.flatnonzero(ours == part).tolist()))
        for part in theirs
    )


class RelabelledSource:
    """A source whose label maps are read through a table.

    Args:
      source: the photographs, see `sources`.
      table: uint8 `[256]`.
    """

    def __init__(self, source, table: np.ndarray):
        self._source = source
        self._table = table

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict:
        """Reads example `index`."""
        example = self._source[index]
        return example | {"label": cv2.LUT(example["label"], self._table)}

    def label(self, index: int) -> np.ndarray:
        """Reads the label map of example `index` alone."""
        return cv2.LUT(read_label(self._source, index), self._table)
