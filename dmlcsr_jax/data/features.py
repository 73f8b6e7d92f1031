"""What an example of a prepared set consists of."""

import functools
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_ENCODED = {"image": tfds.decode.SkipDecoding(), "label": tfds.decode.SkipDecoding()}


def features() -> tfds.features.FeaturesDict:
    """Returns the features of one example.

    "image" is the photograph, JPEG or PNG; "label" a grey PNG of the photograph's size, or that
    divided by a whole number; "name" the example's name; "box" the face's left, top, right and
    bottom edge, in pixels of the photograph with pixel centres at whole numbers.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "name": tfds.features.Text(),
            "box": tfds.features.Tensor(shape=(4,), dtype=np.float64),
        }
    )


def parse(record: bytes) -> dict[str, Any]:
    """Returns the features that a record holds, image and label as bytes of their files.

    Raises:
      ValueError: where it holds other features; other errors where it is no record of features.
    """
    example = _parser().deserialize_example_np(record, decoders=_ENCODED)
    texts = [example.get(name) for name in ("image", "label", "name")]
    box = np.asarray(example.get("box"))
    if not all(isinstance(text, bytes) for text in texts) or box.shape != (4,):
        raise ValueError("it is not an example of a photograph, its label, its name and a box")
    return example


@functools.cache
def _parser() -> tfds.features.FeaturesDict:
    return features()
