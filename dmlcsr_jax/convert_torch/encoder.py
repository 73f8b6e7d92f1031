"""An encoder that starts from an ImageNet ResNet."""

import dataclasses
import re
from typing import Any

import numpy as np

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.checkpoints.values import require_possible_values
from dmlcsr_jax.convert_torch import files
from dmlcsr_jax.convert_torch.names import (
    COUNTER,
    Tensor,
    from_torch_layout,
    insert,
    tensors,
)
from dmlcsr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class EncoderReport:
    """What `load_encoder` did with a file; `str` of it is for the reader.

    Attributes:
      name: of the file.
      loaded: the encoder's tensors that were taken from it, by PyTorch name.
      skipped: tensors of the file that were not used.
      fresh: the encoder's tensors that stay as they were.
    """

    name: str
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        """Returns one line."""
        total = len(self.loaded) + len(self.fresh)
        return (
            f"{self.name}: loaded {len(self.loaded)} of the encoder's {total} tensors; "
            f"skipped {_listing(self.skipped)}; left fresh {_listing(self.fresh)}"
        )


def _listing(names: tuple[str, ...], limit: int = 12) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{len(names)}: {', '.join(names[:limit])}{more}"


# The deep stem of some segmentation code bases: one nn.Sequential called conv1.
_SEQUENTIAL_STEM = {
    "conv1.0.": "conv1.",
    "conv1.1.": "bn1.",
    "conv1.3.": "conv2.",
    "conv1.4.": "bn2.",
    "conv1.6.": "conv3.",
    "bn1.": "bn3.",
}


def _with_plain_stem(state_dict: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "conv1.0.weight" not in state_dict:
        return state_dict

    def plain(name):
        for old, new in _SEQUENTIAL_STEM.items():
            if name.startswith(old):
                return new + name.removeprefix(old)
        return name

    return {plain(name): value for name, value in state_dict.items()}


def _convolution_of(module: str) -> str:
    """Returns the convolution that a module of the encoder belongs to: itself, or its norm's."""
    return re.sub(r"bn(\d)$", r"conv\1", re.sub(r"downsample\.1$", "downsample.0", module))


def load_encoder(file, params, batch_stats, encoder: str, stem: str):
    """Starts the encoder from an ImageNet ResNet.

    Understands torchvision's names, and those of the three-convolution-stem ResNets of semantic
    segmentation (`conv1`, `conv2`, `conv3`, or the same as one sequence called `conv1`). A
    convolution is taken together with its norm and the norm's running statistics, or not at all.

    Args:
      file: a `.pth`, `.pt` or `.safetensors` file.
      params: the network's parameters.
      batch_stats: the network's running statistics.
      encoder: the network's encoder, for messages.
      stem: the encoder's stem, for messages.

    Returns:
      New `params`, new `batch_stats`, and an `EncoderReport`.

    Raises:
      UserError: where the file cannot be read, no convolution of it fits, or a tensor that fits is
        not finite or of variances below 0.
    """
    state_dict = _with_plain_stem(files.read(file))
    branch = {
        "params": {"encoder": params["encoder"]},
        "batch_stats": {"encoder": batch_stats["encoder"]},
    }
    units: dict[str, list[Tensor]] = {}
    for tensor in tensors(branch):
        module, _, _ = tensor.torch_name.rpartition(".")
        units.setdefault(_convolution_of(module), []).append(tensor)

    def fits(tensor):
        value = state_dict.get(tensor.torch_name)
        return value is not None and value.dtype == np.float32 and value.shape == tensor.torch_shape

    leaves = model.named_leaves(branch)
    result: dict[str, Any] = {}
    loaded, fresh = [], []
    for unit in units.values():
        takes = all(map(fits, unit))
        for tensor in unit:
            leaf = leaves["/".join(tensor.path)]
            if takes:
                value = from_torch_layout(tensor.path, state_dict[tensor.torch_name])
                leaf = value.astype(leaf.dtype)
            insert(result, tensor.path, leaf)
            (loaded if takes else fresh).append(tensor.torch_name)
    require_possible_values({name: state_dict[name] for name in loaded}, str(file))
    if not loaded:
        raise UserError(
            f"nothing in {file} fits the encoder {encoder} with the stem {stem}"
            f"{_example(units, state_dict)}; set config.model.encoder and config.model.stem to the "
            "file's, and config.model.width to 1, or name another file."
        )
    skipped = [name for name in state_dict if name not in loaded and not name.endswith(COUNTER)]
    report = EncoderReport(str(file), tuple(loaded), tuple(skipped), tuple(fresh))
    return (
        params | {"encoder": result["params"]["encoder"]},
        batch_stats | {"encoder": result["batch_stats"]["encoder"]},
        report,
    )


def _example(units, state_dict) -> str:
    """Returns the first tensor under a common name with both its shapes, for a message."""
    for unit in units.values():
        for tensor in unit:
            value = state_dict.get(tensor.torch_name)
            if value is not None and value.shape != tensor.torch_shape:
                return (
                    f" (the tensor {tensor.torch_name} has the shape {value.shape} where "
                    f"{tensor.torch_shape} is needed)"
                )
    return ""
