"""Random access to sets that `prepare` wrote."""

import functools
import json
import os
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from dmlcsr_jax.data.decode import decode_image
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.prepared_sets import prepared_sets
from dmlcsr_jax.errors import UserError

_SUMMARY = "metadata.json"
_PARTS = {"image": tfds.decode.SkipDecoding(), "label": tfds.decode.SkipDecoding()}


class PreparedSource:
    """One split of a prepared set; see `sources` for what a source is.

    Picklable; each process opens the files when it first reads. An example also has "box", float64
    `[4]`: left, top, right and bottom edge of the face, in pixels of the image with pixel centres
    at whole numbers; see `warp.box_matrix`.

    Args:
      root: the folder that was given to `prepare` as `--to`, or the set's own folder in it; local
        or remote (`gs://`).
      split: name of a split, or a part of one as tensorflow-datasets writes it: "train[:90%]".
      label_set: what the labels are expected to mean; None for what the set itself says.

    Raises:
      UserError: on creation, where there is no such set or split, files of it are missing, or its
        labels mean something else.
    """

    def __init__(self, root: str | os.PathLike, split: str, label_set: LabelSet | None = None):
        """Finds the set and its split; opens no records."""
        self.folder = _find(epath.Path(root))
        self._split = split
        self.label_set = self._check_labels(label_set)
        self._length = self._check_split()

    def __len__(self) -> int:
        """Returns the number of examples."""
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads example `index`: "image" uint8 `[H, W, 3]` RGB, "label", "name", "box"."""
        example = self._records[index]
        name = example["name"].decode()
        label = np.frombuffer(example["label"], np.uint8)
        return {
            "image": decode_image(example["image"], name),
            # Ours is a grey PNG, so that OpenCV may read it, twice as fast as Pillow.
            "label": cv2.imdecode(label, cv2.IMREAD_GRAYSCALE),
            "name": name,
            "box": example["box"],
        }

    def encoded_image(self, index: int) -> tuple[str, bytes]:
        """Returns name and encoded photograph of example `index`."""
        example = self._records[index]
        return example["name"].decode(), example["image"]

    def name(self, index: int) -> str:
        """Returns the name of example `index`, whose image is not decoded."""
        return self._records[index]["name"].decode()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the open files behind."""
        return {name: value for name, value in self.__dict__.items() if name != "_records"}

    def __repr__(self) -> str:
        """Names the set and the split."""
        return f"PreparedSource({str(self.folder)!r}, {self._split!r})"

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """What `prepare` wrote about the set: "dataset", "label_set", "options", "left_out"."""
        try:
            return json.loads((self.folder / _SUMMARY).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.folder / _SUMMARY} cannot be read; prepare the set again."
            ) from error

    @functools.cached_property
    def _records(self):
        builder = tfds.builder_from_directory(self.folder)
        return builder.as_data_source(self._split, decoders=_PARTS)

    def _check_labels(self, expected: LabelSet | None) -> LabelSet:
        own = LabelSet.from_json(self.summary["label_set"])
        if expected is None or expected.classes == own.classes:
            return expected or own
        raise UserError(
            f"{self.folder} has the labels of {own.name!r}, not of {expected.name!r}; choose that "
            "label set or another set."
        )

    def _check_split(self) -> int:
        """Returns the number of examples in the split, whose files are checked to be there."""
        splits = tfds.builder_from_directory(self.folder).info.splits
        try:
            split = splits[self._split]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{self.folder} has no split {self._split!r}; its splits are {', '.join(splits)}."
            ) from error
        for full in splits.values():
            if set(full.filepaths) & set(split.filepaths):
                self._check_files(full)
        return split.num_examples

    def _check_files(self, split: tfds.core.SplitInfo):
        """Checks that the files of a split are there and not cut off, as after a broken copy."""
        sizes = {}
        for path in map(epath.Path, split.filepaths):
            if not path.exists():
                raise UserError(f"{path} is missing; copy the set again or prepare it anew.")
            sizes[path.name] = path.stat().length
        if sum(sizes.values()) != split.num_bytes:
            raise UserError(
                f"the files {min(sizes)} and following in {self.folder} have "
                f"{sum(sizes.values()):,} bytes instead of {split.num_bytes:,}; copy the set again "
                "or prepare it anew."
            )


def _find(root: epath.Path) -> epath.Path:
    """Returns the folder of the one prepared set in or below a folder."""
    if not root.is_dir():
        raise UserError(
            f"the data folder {str(root)!r} does not exist; set the data's root to what was given "
            "to `python -m dmlcsr_jax.data.prepare` as --to."
        )
    found = prepared_sets(root)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{root} holds several prepared sets; set the data's root to one of "
            f"{', '.join(map(str, found))}."
        )
    raise UserError(
        f"{root} holds no prepared set; make one by `python -m dmlcsr_jax.data.prepare`."
    )
