"""A state_dict as the variables of the network, and back."""

import re
from typing import Any

import jax
import numpy as np

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.checkpoints.values import require_possible_values
from dmlcsr_jax.convert_torch.names import (
    CLASSIFIER,
    COUNTER,
    DEEP,
    EDGE_PREFIX,
    EFFICIENTNET_PREFIX,
    from_torch_layout,
    insert,
    tensors,
    to_torch_layout,
)
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.models.resnet import ARCHITECTURES

# How the released weights are fed; the means and deviations apply to B, G, R in this order.
_RELEASED = {
    "channel_order": "bgr",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "image_size": 473,
}
_RELEASED_LABEL_SETS = ("helen", "lapa", "celebamask_hq")


def infer_metadata(
    state_dict: dict[str, np.ndarray], name: str, label_set: str | None = None
) -> Metadata:
    """Reads from a state_dict what network it belongs to.

    Encoder, stem, width, number of classes and presence of the edge branch are the file's; channel
    order, normalisation and input size are those of the released weights.

    Args:
      state_dict: arrays by PyTorch name.
      name: of the file, for messages.
      label_set: name of a label set or a label-name file; without it, the one label set of released
        weights that has as many classes.

    Raises:
      UserError: where it is no DML-CSR network, or several or no label sets have as many classes.
    """
    classifier = state_dict.get(CLASSIFIER)
    if classifier is None or classifier.ndim != 4:
        found = "none" if classifier is None else classifier.shape
        raise UserError(
            f"{name} lacks the tensor {CLASSIFIER}: needed is the shape (classes, 256, "
            f"1, 1), found {found}; it is not a DML-CSR network (for an ImageNet encoder use "
            "--config.model.pretrained)."
        )
    if any(key.startswith(EFFICIENTNET_PREFIX) for key in state_dict):
        raise UserError(
            f"{name} has an encoder EfficientNet-Lite, of which tensors do not tell all; get "
            f"{name}.json too, which was written beside it."
        )
    num_classes = classifier.shape[0]
    blocks = {}
    for key in state_dict:
        if match := re.match(r"layer([1-4])\.(\d+)\.", key):
            stage, block = int(match[1]), int(match[2])
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    bottleneck = "layer1.0.conv3.weight" in state_dict
    num_blocks = tuple(blocks.get(stage, 0) for stage in (1, 2, 3, 4))
    # A file that fits no encoder is held against the released one, and told what differs.
    encoder, width = "resnet101", 1.0
    for candidate, arch in ARCHITECTURES.items():
        if (arch.bottleneck, arch.num_blocks) == (bottleneck, num_blocks):
            encoder = candidate
            deepest = state_dict.get("layer4.0.conv1.weight")
            if deepest is not None and deepest.ndim == 4:
                width = deepest.shape[0] / arch.planes[3]
    return Metadata(
        encoder=encoder,
        stem="deep" if "conv2.weight" in state_dict else "conv7",
        width=width,
        label_set=_label_set(num_classes, name, label_set),
        edge_branch=any(key.startswith(EDGE_PREFIX) for key in state_dict),
        multi_scale_parsing=DEEP in state_dict,
        **_RELEASED,
    )


def _label_set(num_classes: int, name: str, given: str | None) -> label_sets.LabelSet:
    if given:
        return label_sets.get(given)
    known = [label_sets.get(known) for known in _RELEASED_LABEL_SETS]
    fitting = [label_set for label_set in known if label_set.num_classes == num_classes]
    if len(fitting) == 1:
        return fitting[0]
    names = " or ".join(label_set.name for label_set in fitting)
    ask = f"--label_set={names}" if fitting else "--label_set=FILE with one class name a line"
    raise UserError(
        f"{name} has {num_classes} classes, which does not tell their names: add {ask}."
    )


def from_state_dict(
    state_dict: dict[str, np.ndarray], metadata: Metadata, name: str
) -> dict[str, Any]:
    """Turns a state_dict into the variables of the network that `metadata` describes.

    PyTorch's counters of batch norm updates are left out; nothing reads them.

    Args:
      state_dict: arrays by PyTorch name.
      metadata: of the network.
      name: of the file, for messages.

    Returns:
      `{"params", "batch_stats"}` of float32 arrays.

    Raises:
      UserError: names the first tensor that is missing, extra, of another shape, not of floats,
        not finite, or of variances below 0.
    """
    variables = {"params": {}, "batch_stats": {}}
    expected = set()
    for tensor in tensors(model.abstract_variables(metadata)):
        key, needed = tensor.torch_name, tensor.torch_shape
        expected.add(key)
        if key not in state_dict:
            raise UserError(
                f"{name} lacks the tensor {key}: needed is the shape {needed}, found none; it is "
                f"not a complete DML-CSR network with the encoder {metadata.encoder}."
            )
        value = state_dict[key]
        if value.shape != needed:
            raise UserError(
                f"{name}: the tensor {key} has the shape {value.shape} where {needed} is needed; "
                "it is of another architecture, or of another class count than the "
                f"{metadata.label_set.num_classes} of label set {metadata.label_set.name}."
            )
        if value.dtype != np.float32:
            raise UserError(f"{name}: the tensor {key} is of {value.dtype}; it must be of floats.")
        insert(variables, tensor.path, from_torch_layout(tensor.path, value))
    for key, value in state_dict.items():
        if key not in expected and not key.endswith(COUNTER):
            raise UserError(
                f"{name} has the tensor {key} of shape {value.shape} where the network with the "
                f"encoder {metadata.encoder} has none; it is of another architecture."
            )
    require_possible_values({key: state_dict[key] for key in expected}, name)
    return variables


def to_state_dict(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Turns `{"params", "batch_stats"}` into the state_dict of the PyTorch network, bit for bit."""
    leaves = model.named_leaves(variables)
    return {
        tensor.torch_name: to_torch_layout(
            tensor.path, np.asarray(jax.device_get(leaves["/".join(tensor.path)]))
        )
        for tensor in tensors(variables)
    }
