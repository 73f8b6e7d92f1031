"""Helen, with the labels of Smith et al. (CVPR 2013) and with those of Lin et al. (CVPR 2019)."""

import types

from dmlcsr_jax.data.builders.base import FaceParsingBuilder, Findings
from dmlcsr_jax.data.builders.pairs import Files, find_pairs
from dmlcsr_jax.data.builders.records import Record, SoftMasks, read_lines
from dmlcsr_jax.data.label_sets import HELEN, LabelSet

_LISTS = {"train": "exemplars.txt", "val": "tuning.txt", "test": "testing.txt"}


class Helen(FaceParsingBuilder, skip_registration=True):
    """Helen (SmithCVPR2013, original or resized).

    `images/ID.jpg`; `labels/ID/ID_lblNN.png`, the probability of class NN, 0 to 255; lists of
    lines `NUMBER , ID`. A pixel's label is its most probable class, the lower of equal ones.
    """

    archive = "Helen (SmithCVPR2013)"
    parts = ("images", "labels", *_LISTS.values())
    official_counts = types.MappingProxyType({"train": 2000, "val": 230, "test": 100})

    def label_set(self) -> LabelSet:
        """Returns the 11 classes."""
        return HELEN

    def find(self) -> Findings:
        """Returns the images that the lists name, by split."""
        images = Files(self.source / "images", ".jpg")
        there = images.names()
        found, incomplete = {}, []
        for split, list_name in _LISTS.items():
            path = self.source / list_name
            lines = read_lines(path) if path.exists() else []
            records = []
            for name in (line.rpartition(",")[2].strip() for line in lines):
                masks = [
                    self.source / "labels" / name / f"{name}_lbl{label:02d}.png"
                    for label in range(HELEN.num_classes)
                ]
                absent = [mask for mask in masks if not mask.exists()]
                if name not in there:
                    absent = [images.path(name)]
                if absent:
                    incomplete.append(f"{absent[0]} does not exist, though {list_name} names it")
                else:
                    records.append(Record(name, images.path(name), SoftMasks(tuple(masks))))
            if records:
                found[split] = records
        return Findings(found, incomplete)


class HelenStar(FaceParsingBuilder, skip_registration=True):
    """Helen* (the relabelled Helen).

    `train/` and `test/` with `ID_image.jpg` and `ID_label.png` side by side; `test_resize/`, where
    it is there, becomes the split `test_resize`. There is no validation split.
    """

    archive = "Helen* (the relabelled Helen)"
    parts = ("train", "test")

    def label_set(self) -> LabelSet:
        """Returns the 11 classes."""
        return HELEN

    def find(self) -> Findings:
        """Returns the pairs of each split's folder."""
        found, incomplete = {}, []
        for split in (*self.parts, "test_resize"):
            folder = self.source / split
            records, lonely = find_pairs(Files(folder, "_image.jpg"), Files(folder, "_label.png"))
            if records:
                found[split] = records
            incomplete += lonely
        return Findings(found, incomplete)
