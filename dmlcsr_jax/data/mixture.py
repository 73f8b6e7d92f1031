"""Several sources in every batch, each with its labels, its share and its views."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import ml_collections

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.augmentation import Augmentation
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.partial_labels import PartialLabels, RelabelledSource, is_complete
from dmlcsr_jax.data.points import PointsSource
from dmlcsr_jax.data.scenes import SceneSource
from dmlcsr_jax.data.sources import open_roots
from dmlcsr_jax.data.unlabelled import UnlabelledSource

# Side of drawn scenes, pixels: about that of the photographs.
_SCENE_SIZE = 400
_NUM_SCENES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Part:
    """What a source gives to each batch.

    Attributes:
      source: random-access source, see `sources`; its labels are the batch's.
      share: of the batch, above 0.
      augmentation: ranges of its views.
    """

    source: Any
    share: float
    augmentation: Augmentation


@dataclasses.dataclass(frozen=True)
class Mixture:
    """The further sources of a config and what the labels of its batches mean.

    Attributes:
      parts: one for each of `data.sources`; none: batches are of `data.root` alone.
      labels: the network's classes and the groups that the parts' labels need.
    """

    parts: Sequence[Part]
    labels: PartialLabels

    @property
    def first_share(self) -> float:
        """The share of the batch that is left to `data.root`."""
        return 1 - sum(part.share for part in self.parts)

    @property
    def groups(self):
        """Bool `[G, C]` as `PartialLabels.allowed`, or None where there are no groups."""
        return self.labels.allowed() if self.labels.groups else None


def open_mixture(config: ml_collections.ConfigDict, label_set: LabelSet) -> Mixture:
    """Opens the training examples of `data.sources`.

    Args:
      config: its `data`, `augmentation` and `seed`, as `config.validate` has passed them.
      label_set: the network's.

    Raises:
      UserError: where a source cannot be opened, or its labels mean nothing known here.
    """
    named = sorted(config.data.sources.items())
    sets = {name: source_label_set(data, label_set) for name, data in named}
    labels = PartialLabels.of_sets(label_set, sets.values())
    parts = []
    for number, (name, data) in enumerate(named):
        source = open_named(data, label_set, config.seed + number)
        if not is_complete(sets[name], label_set):
            source = RelabelledSource(source, labels.table(sets[name]))
        augmentation = Augmentation.from_dict(source_augmentation(config, data).to_dict())
        parts.append(Part(source, data.share, augmentation))
    return Mixture(tuple(parts), labels)


def source_label_set(data: ml_collections.ConfigDict, label_set: LabelSet) -> LabelSet:
    """Returns the label set of one of `data.sources`; `label_set` is the network's."""
    if data.kind == "points":
        return PointsSource.label_set
    return label_set if data.kind in ("images", "scenes") else label_sets.get(data.label_set)


def open_named(
    data: ml_collections.ConfigDict,
    label_set: LabelSet,
    seed: int,
    check_files: bool = True,
):
    """Opens one of `data.sources` with the labels of its own set; see `open_mixture`."""
    if data.kind == "points":
        return PointsSource(data.root, data.split)
    if data.kind == "images":
        return UnlabelledSource(data.root, data.split, label_set)
    if data.kind == "scenes":
        return SceneSource(_NUM_SCENES, _SCENE_SIZE, label_set, seed)
    own = label_sets.get(data.label_set)
    return open_roots(data.kind, data.root, data.split, own, check_files)


def source_augmentation(
    config: ml_collections.ConfigDict, data: ml_collections.ConfigDict
) -> ml_collections.ConfigDict:
    """Returns `config.augmentation` with what one of `data.sources` sets otherwise."""
    augmentation = ml_collections.ConfigDict(config.augmentation.to_dict())
    augmentation.update(data.augmentation)
    return augmentation
