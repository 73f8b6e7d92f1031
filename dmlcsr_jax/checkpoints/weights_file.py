"""A model as two small files, `NAME.safetensors` and `NAME.json`: to ship it, to load it anywhere.

The tensors are named by their place in the tree, `params/...` and `batch_stats/...`; params are
float16, batch_stats float32. The JSON file holds the metadata and the SHA-256 of the other file.
Neither torch nor Orbax is needed.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np
import safetensors.numpy
from etils import epath

from dmlcsr_jax import atomic_file
from dmlcsr_jax.checkpoints import safetensors_file
from dmlcsr_jax.data.json_object import parse_object
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.metadata import Metadata

SUFFIX = ".safetensors"
# The model that comes with the package, and what it is called on every command line.
DEFAULT = "default"
DEFAULT_FILE = pathlib.Path(__file__).parents[1] / "weights" / "celebamask_hq_small.safetensors"


def write(path: epath.PathLike, metadata: Metadata, tensors: dict[str, Any]) -> None:
    """Writes a model; files that are there are replaced.

    Args:
      path: ends in `.safetensors`; the JSON file lies beside it.
      metadata: describes the network.
      tensors: float arrays by name.

    Raises:
      UserError: where the suffix is another, or a value is not finite or too large for float16.
    """
    path = epath.Path(path)
    if path.suffix != SUFFIX:
        raise UserError(f"{path} must end in {SUFFIX}.")
    stored = {}
    for name, tensor in tensors.items():
        dtype = np.float16 if name.startswith("params/") else np.float32
        with np.errstate(over="ignore"):
            stored[name] = np.ascontiguousarray(np.asarray(tensor, np.float32).astype(dtype))
        if not np.isfinite(stored[name]).all():
            raise UserError(f"the tensor {name} has values that {dtype.__name__} does not hold.")
    data = safetensors.numpy.save(stored)
    about = {"sha256": hashlib.sha256(data).hexdigest(), "metadata": metadata.to_json()}
    atomic_file.write_bytes(path, data)
    atomic_file.write_text(path.with_suffix(".json"), json.dumps(about, indent=1) + "\n")


def read(path: epath.PathLike) -> tuple[Metadata, dict[str, np.ndarray]]:
    """Reads what `write` wrote.

    Returns:
      The metadata, and float32 arrays by name.

    Raises:
      UserError: where a file is missing or damaged, or the two are not of one model.
    """
    data, fields = read_verified(path)
    return Metadata.from_json(fields), safetensors_file.parse(data, os.fspath(path))


def read_verified(path: epath.PathLike) -> tuple[bytes, Any]:
    """Returns the bytes of a model's tensors, compared with their SHA-256, and its metadata's JSON.

    Raises:
      UserError: as `read`, but for what the tensors and the metadata hold.
    """
    path = epath.Path(path)
    description = path.with_suffix(".json")
    for file in (path, description):
        if not file.is_file():
            raise UserError(f"{file} is not there; a model is both {path.name} and the other.")
    about = parse_object(description.read_bytes(), os.fspath(description))
    if missing := {"sha256", "metadata"} - about.keys():
        raise UserError(
            f"{description} does not describe a model, it lacks {min(missing)}; get it again."
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise UserError(f"{path} is damaged or not the file of {description.name}; get both again.")
    return data, about["metadata"]
