"""SHA-256 of tensors, kept beside them, so that a byte that changes on disk is noticed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dmlcsr_jax.distributed.sharding import complete_array


def tensor_digest(value: np.ndarray) -> str:
    """Returns dtype, shape and SHA-256 of an array: of its elements, little-endian, in C order.

    Args:
      value: an array of any shape and dtype.

    Returns:
      For example "float32 3x3x64x64 1f3a...", 64 hexadecimal digits.
    """
    value = np.asarray(value)
    shape = "x".join(map(str, value.shape)) or "scalar"
    elements = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return f"{value.dtype} {shape} {hashlib.sha256(elements).hexdigest()}"


def digests(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Returns the digest of each tensor by its name.

    Args:
      tensors: arrays by name; of one that is split over processes, all of them must ask.
    """
    return {name: tensor_digest(complete_array(value)) for name, value in tensors.items()}


def text_digest(data: Any) -> str:
    """Returns the SHA-256 of what JSON can hold, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def require_same_digests(tensors: Mapping[str, Any], expected: Any) -> None:
    """Refuses tensors that are not those that were saved.

    Args:
      tensors: arrays by name, as they were read.
      expected: what `digests` returned when they were saved, as JSON gave it back.

    Raises:
      ValueError: names the first tensor that has changed.
    """
    if not isinstance(expected, Mapping) or expected.keys() != tensors.keys():
        raise ValueError("its check sums are not of its tensors")
    for name, found in digests(tensors).items():
        there, here = str(expected[name]).split(), found.split()
        if there != here and not _was_narrowed(there, here):
            raise ValueError(
                f"the tensor {name} is not the one that was saved: its SHA-256 differs"
            )


def _was_narrowed(there: list[str], here: list[str]) -> bool:
    """Returns whether JAX has read 64 bits as 32, which changes the elements."""
    try:
        narrowed = str(jax.dtypes.canonicalize_dtype(there[0]))
    except (TypeError, IndexError):
        return False
    return there[0] != here[0] == narrowed and there[1:2] == here[1:2]
