"""Random access to sets that `prepare` wrote."""

import functools
import os
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

from dmlcsr_jax.data.decode import check_label_values, check_shapes, decode_image, picture_size
from dmlcsr_jax.data.features import parse
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.prepared_description import read_splits, read_summary
from dmlcsr_jax.data.prepared_sets import prepared_sets
from dmlcsr_jax.errors import UserError, first_line


class PreparedSource:
    """One split of a prepared set; see `sources` for what a source is.

    Picklable; each process opens the files when it first reads. An example also has "box", float64
    `[4]`: left, top, right and bottom edge of the face, in pixels of the image with pixel centres
    at whole numbers; see `geometry.box_matrix`.

    Args:
      root: the folder that was given to `prepare` as `--out`, or the set's own folder in it; local
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
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads example `index`: "image" uint8 `[H, W, 3]` RGB, "label", "name", "box".

        Raises:
          UserError: where its record is damaged, or is not what `prepare` writes.
        """
        example = self._example(index)
        name = self._name(example)
        image = decode_image(example["image"], name)
        label = _decode_label(example["label"], name)
        check_label_values(label, f"the label of {name}", self.label_set)
        check_shapes(image, label, name, f"the label of {name}")
        if not np.isfinite(example["box"]).all():
            raise UserError(f"{name} has the face box {example['box']}; prepare the set anew.")
        return {"image": image, "label": label, "name": name, "box": example["box"]}

    def encoded_image(self, index: int) -> tuple[str, bytes]:
        """Returns name and encoded photograph of example `index`.

        Raises:
          UserError: where its record is damaged.
        """
        example = self._example(index)
        return self._name(example), example["image"]

    def name(self, index: int) -> str:
        """Returns the name of example `index`, whose image is not decoded.

        Raises:
          UserError: where its record is damaged.
        """
        return self._name(self._example(index))

    def _name(self, example: dict[str, Any]) -> str:
        # A strange name is no reason to lose the example.
        return example["name"].decode(errors="backslashreplace")

    def _example(self, index: int) -> dict[str, Any]:
        """Returns the features of example `index`, image and label encoded."""
        try:
            return parse(self._records[index])
        # Many kinds: array_record's and protobuf's own, and what parsing a strange record raises.
        except Exception as error:
            raise UserError(
                f"record {index} cannot be read: {first_line(error)}; copy {self.folder} again or "
                "prepare it anew."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the open files behind."""
        return {name: value for name, value in self.__dict__.items() if name != "_records"}

    def __repr__(self) -> str:
        """Names the set and the split."""
        return f"PreparedSource({str(self.folder)!r}, {self._split!r})"

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """What `prepare` wrote about the set: "dataset", "label_set", "options", "left_out"."""
        return read_summary(self.folder)

    @functools.cached_property
    def _records(self) -> ArrayRecordDataSource:
        return ArrayRecordDataSource(read_splits(self.folder)[self._split].file_instructions)

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
        splits = read_splits(self.folder)
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
        for path, length in zip(map(epath.Path, split.filepaths), split.shard_lengths, strict=True):
            if not path.exists():
                raise UserError(f"{path} is missing; copy the set again or prepare it anew.")
            sizes[path.name] = path.stat().length
            # No record takes less than a byte: a length that is made up exhausts nothing.
            if length > sizes[path.name]:
                raise UserError(
                    f"{path} cannot hold {length:,} examples in {sizes[path.name]:,} bytes; copy "
                    "the set again or prepare it anew."
                )
        if sum(sizes.values()) != split.num_bytes:
            raise UserError(
                f"the files {min(sizes)} and following in {self.folder} have "
                f"{sum(sizes.values()):,} bytes instead of {split.num_bytes:,}; copy the set again "
                "or prepare it anew."
            )


def _decode_label(data: bytes, name: str) -> np.ndarray:
    """Returns uint8 `[h, w]`: a label map as `prepare` encodes it."""
    picture_size(data, f"the label of {name}")
    try:
        # A grey PNG, so that OpenCV may read it, twice as fast as Pillow.
        label = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        label = None
    if label is None:
        raise UserError(f"the label of {name} is not a readable picture; prepare the set anew.")
    return label


def _find(root: epath.Path) -> epath.Path:
    """Returns the folder of the one prepared set in or below a folder."""
    if not root.is_dir():
        raise UserError(
            f"the data folder {str(root)!r} does not exist; set the data's root to what was given "
            "to `python -m dmlcsr_jax.data.prepare` as --out."
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
