"""FaceSynthetics (Wood et al., ICCV 2021): rendered faces with 70 landmarks."""

import numpy as np

from dmlcsr_jax.data.builders.base import FaceParsingBuilder, Findings
from dmlcsr_jax.data.builders.pairs import Files, find_pairs
from dmlcsr_jax.data.label_sets import FACE_SYNTHETICS, LabelSet
from dmlcsr_jax.errors import UserError

_OFFICIAL_SIZES = (100, 1_000, 100_000)


class FaceSynthetics(FaceParsingBuilder, skip_registration=True):
    """FaceSynthetics: `NNNNNN.png`, `NNNNNN_seg.png`, `NNNNNN_ldmks.txt` in one folder.

    The authors give no splits. An image's split is drawn from the seed and its own index, so that
    it is the same whatever other images there are.
    """

    archive = "FaceSynthetics"
    parts = ("*_seg.png",)

    def label_set(self) -> LabelSet:
        """Returns the 19 classes."""
        return FACE_SYNTHETICS

    def find(self) -> Findings:
        """Returns the pairs by drawn split."""
        records, incomplete = find_pairs(
            Files(self.source, ".png"),
            Files(self.source, "_seg.png"),
            Files(self.source, "_ldmks.txt"),
        )
        found = {"train": [], "val": [], "test": []}
        for record in records:
            if not record.name.isdecimal():
                raise UserError(
                    f"{record.image} is not named by a number, as the images of {self.archive} "
                    "are; remove the file."
                )
            found[self._split(record.name)].append(record)
        return Findings({split: part for split, part in found.items() if part}, incomplete)

    def count_problem(self) -> str | None:
        """Returns what is wrong with the number of images, or None."""
        total = sum(self.counts.values())
        if total in _OFFICIAL_SIZES:
            return None
        *smaller, largest = (f"{size:,}" for size in _OFFICIAL_SIZES)
        return f"{total:,} images instead of the official {', '.join(smaller)} or {largest}"

    def _split(self, name: str) -> str:
        draw = np.random.default_rng((self.options.split_seed, int(name))).random()
        if draw < self.options.test_fraction:
            return "test"
        if draw < self.options.test_fraction + self.options.val_fraction:
            return "val"
        return "train"
