"""Sums over the examples of a split, and what they say of classes, left and right."""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

from dmlcsr_jax.check_data.findings import Finding, named_pairs
from dmlcsr_jax.data.label_sets import LabelSet


class Tally:
    """Sums over one split."""

    def __init__(self, label_set: LabelSet, official: int | None):
        """Starts at zero; `official` is the number of examples that the authors state."""
        self.official = official
        self.examples = 0
        self.bad: list[dict[str, Any]] = []
        self.sizes = collections.Counter()
        self.pixels = np.zeros(256, np.int64)
        self.images = np.zeros(256, np.int64)
        self.offsets: list[np.ndarray] = []
        self.names: list[str] = []
        self._ignore_label = label_set.ignore_label

    def add(self, finding: Finding):
        """Adds what one example gave."""
        self.examples += 1
        if finding.error is not None:
            self.bad.append({"index": finding.index, "error": finding.error})
            return
        self.sizes[finding.sizes] += 1
        self.pixels += finding.counts
        self.images += finding.counts > 0
        self.offsets.append(finding.offsets)
        self.names.append(finding.name)

    def summary(self) -> dict[str, Any]:
        """Returns the split's part of the report."""
        return {
            "examples": self.examples,
            "official": self.official,
            "bad": self.bad,
            "sizes": dict(self.sizes.most_common()),
        }

    def pixel_share(self, label: int) -> float:
        """Returns the class's share of the pixels that are not ignored."""
        counted = self.pixels.sum() - self.pixels[self._ignore_label]
        return float(self.pixels[label] / max(counted, 1))

    def image_share(self, label: int) -> float:
        """Returns the share of the images that show the class."""
        return float(self.images[label] / max(len(self.names), 1))

    def ignored_share(self) -> float:
        """Returns the share of the pixels that are ignored."""
        return float(self.pixels[self._ignore_label] / max(self.pixels.sum(), 1))


def class_shares(tallies: Mapping[str, Tally], label_set: LabelSet) -> list[dict[str, Any]]:
    """Returns, for each class, its share of pixels and of images by split."""
    return [
        {
            "label": label,
            "name": name,
            "pixels": {split: tally.pixel_share(label) for split, tally in tallies.items()},
            "images": {split: tally.image_share(label) for split, tally in tallies.items()},
        }
        for label, name in enumerate(label_set.classes)
    ]


def left_right(tallies: Mapping[str, Tally], label_set: LabelSet) -> list[dict[str, Any]]:
    """Returns, for each pair, in how many images the left-named part is where it should be."""
    sign = -1 if label_set.left_is == "subject" else 1
    names = [f"{split}/{name}" for split, tally in tallies.items() for name in tally.names]
    pairs = named_pairs(label_set)
    offsets = [offsets for tally in tallies.values() for offsets in tally.offsets]
    offsets = sign * np.array(offsets).reshape(len(names), len(pairs))
    result = []
    for number, (left, right) in enumerate(pairs):
        shown = ~np.isnan(offsets[:, number])
        wrong = np.flatnonzero(offsets[:, number] <= 0)
        count = int(shown.sum())
        result.append(
            {
                "left": label_set.classes[left],
                "right": label_set.classes[right],
                "images": count,
                "plausible": 1 - len(wrong) / count if count else None,
                "implausible": [names[i] for i in wrong],
            }
        )
    return result
