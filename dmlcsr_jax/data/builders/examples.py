"""Examples as prepared sets hold them: encoded image and label, name, face box."""

import dataclasses
import io
from typing import Any

import cv2
import numpy as np

from dmlcsr_jax.data.builders.records import Record, read_landmarks
from dmlcsr_jax.data.decode import check_label_values, check_shapes, decode_image, read_bytes
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError

# Quality of a reduced photograph where none is asked for.
_DEFAULT_JPEG_QUALITY = 95
# Rows of equal labels compress best unfiltered, and are decoded twice as fast.
_LABEL_PNG = (
    cv2.IMWRITE_PNG_COMPRESSION,
    6,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_NONE,
)
# What a face box leaves out; hair and clothes reach far from the face.
_NOT_FACE = ("background", "hair", "hat", "headwear", "neck", "neck_l", "cloth", "clothing")


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How photographs are stored.

    Attributes:
      max_side: longer sides above this many pixels are reduced to it; None keeps every size.
      jpeg_quality: every photograph is encoded anew as JPEG of this quality, 1 to 100; None keeps
        the authors' bytes, and gives reduced photographs quality 95.
    """

    max_side: int | None = None
    jpeg_quality: int | None = None


def encode(
    record: Record, encoding: Encoding, label_set: LabelSet, limits: Limits
) -> dict[str, Any]:
    """Reads an example and checks it.

    Args:
      record: where its parts lie.
      encoding: how the photograph is stored.
      label_set: which labels there may be.
      limits: what a file may cost.

    Returns:
      The example's features, image and label as file objects of encoded bytes.

    Raises:
      UserError: where a file is damaged, a label is not of the set, or sizes do not fit.
    """
    data = read_bytes(record.image, limits)
    image = decode_image(data, str(record.image), limits)
    label = record.label.read(label_set, limits)
    label_name = f"the label of {record.name}"
    check_label_values(label, label_name, label_set)
    check_shapes(image, label, str(record.image), label_name)
    box = _face_box(record, image.shape[:2], label, label_set)

    scale = min(1.0, (encoding.max_side or np.inf) / max(image.shape[:2]))
    if scale < 1:
        image, label, box = _reduce(image, label, box, scale)
    if scale < 1 or encoding.jpeg_quality:
        quality = encoding.jpeg_quality or _DEFAULT_JPEG_QUALITY
        data = _encode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    return {
        "image": io.BytesIO(data),
        "label": io.BytesIO(_encode(".png", label, _LABEL_PNG)),
        "name": record.name,
        "box": box,
    }


def _face_box(
    record: Record, hw: tuple[int, int], label: np.ndarray, label_set: LabelSet
) -> np.ndarray:
    """Returns float64 `[4]`: the box of the landmarks, else of the face's labels, else all."""
    if record.landmarks is not None:
        points = read_landmarks(record.landmarks)
        return np.concatenate([points.min(0), points.max(0)])
    face = np.zeros(256, np.uint8)
    face[: label_set.num_classes] = [name not in _NOT_FACE for name in label_set.classes]
    left, top, width, height = cv2.boundingRect(cv2.LUT(label, face))
    if not width:
        left, top, (height, width) = 0, 0, label.shape
    edges = np.array([left, top, left + width, top + height], np.float64)
    return edges * (hw[0] / label.shape[0]) - 0.5


def _reduce(image: np.ndarray, label: np.ndarray, box: np.ndarray, scale: float):
    """Returns image, label and box of the photograph reduced by a factor below 1."""
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    factors = np.array([width / image.shape[1], height / image.shape[0]] * 2)
    box = (box + 0.5) * factors - 0.5
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    divides = height % label.shape[0] == 0 and width % label.shape[1] == 0
    if not divides or height // label.shape[0] != width // label.shape[1]:
        label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return image, label, box


def _encode(suffix: str, pixels: np.ndarray, parameters: tuple[int, ...]) -> bytes:
    done, data = cv2.imencode(suffix, pixels, parameters)
    if not done:
        raise UserError(f"a picture of {pixels.shape} pixels cannot be encoded as {suffix}.")
    return data.tobytes()
