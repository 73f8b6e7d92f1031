"""LaPa (Liu et al., AAAI 2020): photographs of any size, 106 landmarks."""

import types

from dmlcsr_jax.data.builders.base import FaceParsingBuilder, Findings
from dmlcsr_jax.data.builders.pairs import Files, find_pairs
from dmlcsr_jax.data.label_sets import LAPA, LabelSet


class Lapa(FaceParsingBuilder, skip_registration=True):
    """LaPa: `train`, `val` and `test`, each with `images/`, `labels/` and `landmarks/`."""

    archive = "LaPa"
    parts = ("train", "val", "test")
    official_counts = types.MappingProxyType({"train": 18176, "val": 2000, "test": 2000})

    def label_set(self) -> LabelSet:
        """Returns the 11 classes."""
        return LAPA

    def find(self) -> Findings:
        """Returns the pairs of each split's folder."""
        found, incomplete = {}, []
        for split in self.parts:
            folder = self.source / split
            records, lonely = find_pairs(
                Files(folder / "images", ".jpg"),
                Files(folder / "labels", ".png"),
                Files(folder / "landmarks", ".txt"),
            )
            if records:
                found[split] = records
            incomplete += lonely
        return Findings(found, incomplete)
