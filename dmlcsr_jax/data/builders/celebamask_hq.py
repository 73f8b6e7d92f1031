"""CelebAMask-HQ (Lee et al., CVPR 2020): 1024-pixel photographs, one 512-pixel mask a part."""

import collections
import os
import pathlib
import types

from dmlcsr_jax.data.builders.base import FaceParsingBuilder, Findings
from dmlcsr_jax.data.builders.records import PartMasks, Record, read_lines
from dmlcsr_jax.data.label_sets import CELEBAMASK_HQ, LabelSet
from dmlcsr_jax.errors import UserError

_IMAGES = "CelebA-HQ-img"
_MASKS = "CelebAMask-HQ-mask-anno"
_MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
# CelebA's official partition by `orig_idx`, as the authors' script draws the lines.
_FIRST_VAL = 162771
_FIRST_TEST = 182638


class CelebamaskHq(FaceParsingBuilder, skip_registration=True):
    """CelebAMask-HQ, split as CelebA is.

    `CelebAMask-HQ-mask-anno/K/NNNNN_PART.png` is the mask of a part of image `N`, absent where the
    part is; folder `K` holds 2,000 images. Parts are painted in the order of their labels, later
    ones over earlier ones, as the authors' script does it.
    """

    archive = "CelebAMask-HQ"
    parts = (_IMAGES, _MASKS, _MAPPING)
    official_counts = types.MappingProxyType({"train": 24183, "val": 2993, "test": 2824})

    def label_set(self) -> LabelSet:
        """Returns the 19 classes."""
        return CELEBAMASK_HQ

    def find(self) -> Findings:
        """Returns the images that the mapping names, by split."""
        images = set(os.listdir(self.source / _IMAGES))
        masks = self._masks()
        records = {"train": [], "val": [], "test": []}
        incomplete = []
        for number, original in self._mapping():
            image = self.source / _IMAGES / f"{number}.jpg"
            if image.name not in images:
                incomplete.append(f"{image} does not exist, though {_MAPPING} names it")
            elif number not in masks:
                incomplete.append(f"{image} has no mask in {_MASKS}")
            else:
                label = PartMasks(tuple(sorted(masks[number])))
                records[_split(original)].append(Record(str(number), image, label))
        return Findings({split: found for split, found in records.items() if found}, incomplete)

    def _mapping(self) -> list[tuple[int, int]]:
        """Returns pairs of an image's number and its index in CelebA."""
        path = self.source / _MAPPING
        # The first line names the columns: idx, orig_idx, orig_file.
        lines = [line.split() for line in read_lines(path)[1:]]
        try:
            return [(int(number), int(original)) for number, original, _ in lines]
        except ValueError as error:
            raise UserError(
                f"{path} must have lines of idx, orig_idx and orig_file below its first line; "
                "unpack it again."
            ) from error

    def _masks(self) -> dict[int, list[tuple[int, pathlib.Path]]]:
        """Returns each image's masks with their labels."""
        labels = {name: label for label, name in enumerate(CELEBAMASK_HQ.classes)}
        masks = collections.defaultdict(list)
        for folder in (self.source / _MASKS).iterdir():
            if not folder.is_dir():
                continue
            for name in os.listdir(folder):
                number, _, part = name.removesuffix(".png").partition("_")
                if number.isdigit() and name.endswith(".png"):
                    if part not in labels:
                        raise UserError(
                            f"{folder / name} is of an unknown part {part!r}; remove the file."
                        )
                    masks[int(number)].append((labels[part], folder / name))
        return masks


def _split(original: int) -> str:
    """Returns the split of an image by its index in CelebA."""
    if original < _FIRST_VAL:
        return "train"
    return "val" if original < _FIRST_TEST else "test"
