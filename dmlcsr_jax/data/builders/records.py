"""One example as it is in the authors' folder, and how its parts are read."""

import dataclasses
import pathlib

import cv2
import numpy as np

from dmlcsr_jax.data.decode import decode_label, picture_size, read_bytes
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class LabelFile:
    """A label map in one grey or palette PNG."""

    path: pathlib.Path

    def read(self, label_set: LabelSet, limits: Limits) -> np.ndarray:
        """Returns uint8 `[h, w]`.

        Raises:
          UserError: where the file is damaged or holds a value that is not a label.
        """
        return decode_label(read_bytes(self.path, limits), str(self.path), label_set, limits)


@dataclasses.dataclass(frozen=True)
class PartMasks:
    """A label map as one mask a part, painted in order: later parts cover earlier ones.

    Attributes:
      masks: pairs of label and mask file, in the order of painting; where the mask is not 0, the
        label applies.
    """

    masks: tuple[tuple[int, pathlib.Path], ...]

    def read(self, label_set: LabelSet, limits: Limits) -> np.ndarray:
        """Returns uint8 `[h, w]`.

        Raises:
          UserError: where a mask is damaged, or the masks differ in size.
        """
        del label_set  # The labels are the layout's own.
        label = None
        for value, path in self.masks:
            mask = _decode_mask(path, limits)
            if label is None:
                label = np.zeros_like(mask)
            elif mask.shape != label.shape:
                raise _different_sizes(self.masks[0][1], label.shape, path, mask.shape)
            label[mask != 0] = value
        return label


@dataclasses.dataclass(frozen=True)
class SoftMasks:
    """A label map as one probability map a class; the most probable class applies.

    Attributes:
      paths: the classes' maps in the order of their labels; of equal probabilities the lower label
        wins.
    """

    paths: tuple[pathlib.Path, ...]

    def read(self, label_set: LabelSet, limits: Limits) -> np.ndarray:
        """Returns uint8 `[h, w]`.

        Raises:
          UserError: where a map is damaged, or the maps differ in size.
        """
        del label_set  # There are as many maps as classes.
        most = _decode_mask(self.paths[0], limits)
        label = np.zeros_like(most)
        for value, path in enumerate(self.paths[1:], 1):
            mask = _decode_mask(path, limits)
            if mask.shape != most.shape:
                raise _different_sizes(self.paths[0], most.shape, path, mask.shape)
            label[mask > most] = value
            np.maximum(most, mask, out=most)
        return label


@dataclasses.dataclass(frozen=True)
class Record:
    """Where the parts of one example lie.

    Attributes:
      name: the example's name, unique in its set.
      image: the photograph's file.
      label: how to read its label map.
      landmarks: text file with a point `x y` a line, or None where the set has no landmarks.
    """

    name: str
    image: pathlib.Path
    label: LabelFile | PartMasks | SoftMasks
    landmarks: pathlib.Path | None = None


def read_lines(path: pathlib.Path) -> list[str]:
    """Returns a text file's lines without white space around them, empty ones left out.

    Raises:
      UserError: where it cannot be read or is not text.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8; unpack it again.") from error
    return [line for line in map(str.strip, text.splitlines()) if line]


def read_landmarks(path: pathlib.Path) -> np.ndarray:
    """Returns float64 `[n, 2]`: landmarks `(x, y)` in pixels of the photograph.

    Args:
      path: text with a point a line; a first line with the number of points is left out.

    Raises:
      UserError: where a line is not a point, or there is none.
    """
    lines = read_lines(path)
    if lines and len(lines[0].split()) == 1:
        lines = lines[1:]
    try:
        points = np.array([[float(number) for number in line.split()] for line in lines])
    except ValueError:
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise UserError(f"{path} does not hold a landmark 'x y' on each line; unpack it again.")
    return points


def _decode_mask(path: pathlib.Path, limits: Limits) -> np.ndarray:
    """Returns uint8 `[h, w]`: a mask's grey values, or its blue channel as the authors read it."""
    # Not `decode_image`: a mask is read as it is stored, and CelebAMask-HQ has 300,000 of them.
    data = read_bytes(path, limits)
    picture_size(data, str(path), limits)
    try:
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        mask = None
    if mask is None or mask.dtype != np.uint8:
        raise UserError(f"{path} is not a readable mask of 8 bits; unpack it again.")
    return mask if mask.ndim == 2 else np.ascontiguousarray(mask[..., 0])


def _different_sizes(path, shape, other_path, other_shape) -> UserError:
    return UserError(
        f"{path} is {shape[1]}x{shape[0]} pixels but {other_path} is "
        f"{other_shape[1]}x{other_shape[0]}; the masks of one image must have one size: unpack "
        "them again."
    )
