"""Names and layouts of the PyTorch networks' tensors, one to one with the tree's here."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

_CONTEXT = {
    "conv_in/conv": "conva.0",
    "conv_in/norm": "conva.1",
    "graph/feature": "dualgcn",
    "graph/feature/phi/conv": "dualgcn.phi",
    "graph/feature/phi/norm": "dualgcn.bn_phi",
    "graph/feature/theta/conv": "dualgcn.theta",
    "graph/feature/theta/norm": "dualgcn.bn_theta",
    "graph/feature/mix_nodes": "dualgcn.conv_adj",
    "graph/feature/mix_nodes_norm": "dualgcn.bn_adj",
    "graph/feature/mix_states": "dualgcn.conv_wg",
    "graph/feature/mix_states_norm": "dualgcn.bn_wg",
    "graph/feature/out/conv": "dualgcn.conv3",
    "graph/feature/out/norm": "dualgcn.bn3",
    "graph/spatial/reduce0": "dualgcn.local.0",
    "graph/spatial/reduce0_norm": "dualgcn.local.1",
    "graph/spatial/reduce1": "dualgcn.local.2",
    "graph/spatial/reduce1_norm": "dualgcn.local.3",
    "graph/spatial/reduce2": "dualgcn.local.4",
    "graph/spatial/reduce2_norm": "dualgcn.local.5",
    "graph/spatial": "dualgcn.gcn_local_attention",
    "graph/spatial/key": "dualgcn.gcn_local_attention.node_k",
    "graph/spatial/value": "dualgcn.gcn_local_attention.node_v",
    "graph/spatial/query": "dualgcn.gcn_local_attention.node_q",
    "graph/spatial/mix": "dualgcn.gcn_local_attention.conv_wg",
    "graph/spatial/mix_norm": "dualgcn.gcn_local_attention.bn_wg",
    "graph/spatial/out": "dualgcn.gcn_local_attention.out.0",
    "graph/spatial/out_norm": "dualgcn.gcn_local_attention.out.1",
    "graph/join/conv": "dualgcn.final.0",
    "graph/join/norm": "dualgcn.final.1",
    "conv_out/conv": "convb.0",
    "conv_out/norm": "convb.1",
    "bottleneck/conv": "bottleneck.0",
    "bottleneck/norm": "bottleneck.1",
}
_PARSING = {
    "context/conv": "conv1.0",
    "context/norm": "conv1.1",
    "low/conv": "conv2.0",
    "low/norm": "conv2.1",
    "middle/conv": "middle.0",
    "middle/norm": "middle.1",
    "deep/conv": "deep.0",
    "deep/norm": "deep.1",
    "fuse0/conv": "conv3.0",
    "fuse0/norm": "conv3.1",
    "fuse1/conv": "conv3.2",
    "fuse1/norm": "conv3.3",
    "logits": "conv4",
}
_EDGE = {
    "x2/conv": "conv1.0",
    "x2/norm": "conv1.1",
    "x3/conv": "conv2.0",
    "x3/norm": "conv2.1",
    "x4/conv": "conv3.0",
    "x4/norm": "conv3.1",
    "shared": "conv4",
    "binary_logits": "conv5_b",
    "category_logits": "conv5",
}
_HEADS = {
    "context": ("context", _CONTEXT),
    "parsing": ("layer6", _PARSING),
    "edge": ("edge_layer", _EDGE),
}
_EFFICIENTNET = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
# Released EfficientNets have no such prefix; theirs are an encoder alone.
EFFICIENTNET_PREFIX = "encoder."
_ENCODER = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "gamma": "gamma",
    "mean": "running_mean",
    "var": "running_var",
}

# Scalars of PyTorch's BatchNorm that count its updates; nothing reads them where momentum is set.
COUNTER = "num_batches_tracked"
EDGE_PREFIX = "edge_layer."
CLASSIFIER = "layer6.conv4.weight"
# There where the parsing head reads all depths.
DEEP = "layer6.deep.0.weight"


class Tensor(NamedTuple):
    """A tensor of the network under both its names.

    Attributes:
      path: keys in the variables here, "params" or "batch_stats" first.
      torch_name: name in the PyTorch network's state_dict.
      torch_shape: shape there.
    """

    path: tuple[str, ...]
    torch_name: str
    torch_shape: tuple[int, ...]


def torch_name(path: tuple[str, ...]) -> str:
    """Returns the state_dict name of the leaf at `path`, "params" or "batch_stats" first."""
    branch, *modules, leaf = path[1:]
    if branch == "encoder" and modules[-1] in _EFFICIENTNET:
        return EFFICIENTNET_PREFIX + efficientnet_name(path)
    if branch == "encoder":
        names = [_ENCODER.get(name, name.replace("_", ".")) for name in modules]
        return ".".join([*names, LEAVES[leaf]])
    prefix, table = _HEADS[branch]
    name = f"{prefix}.{table['/'.join(modules)]}.{LEAVES[leaf]}"
    return "context.dualgcn.gamma1" if name == "context.dualgcn.gamma" else name


def efficientnet_name(path: tuple[str, ...]) -> str:
    """Returns the name in a released EfficientNet-Lite of the encoder's leaf at `path`."""
    *modules, leaf = path[2:]
    parts = [_EFFICIENTNET[modules[-1]], LEAVES[leaf]]
    if len(modules) == 2:
        parts = ["_blocks", modules[0].removeprefix("block"), *parts]
    return ".".join(parts)


def tensors(variables) -> Iterator[Tensor]:
    """Yields every tensor of `{"params", "batch_stats"}` in PyTorch's order, from image to logits.

    Args:
      variables: nested dicts whose leaves need a `shape` alone.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    shapes = {tuple(key.key for key in path): leaf.shape for path, leaf in leaves}
    for path in sorted(shapes, key=_position):
        yield Tensor(path, torch_name(path), _torch_shape(path, shapes[path]))


def _position(path):
    """Returns what sorts the leaf at `path` into its place in the network."""
    branch, *modules, leaf = path[1:]
    leaf = list(LEAVES).index(leaf)
    if branch != "encoder":
        return (
            1 + list(_HEADS).index(branch),
            list(_HEADS[branch][1]).index("/".join(modules)),
            leaf,
        )
    if modules[-1] in _EFFICIENTNET:
        block = int(modules[0].removeprefix("block")) if len(modules) == 2 else -1
        return (0, (block, list(_EFFICIENTNET).index(modules[-1])), leaf)
    # "layer3_10/bn2" is stage 3, block 10, second convolution, its norm; the stem is stage 0.
    stage, block = map(int, re.findall(r"\d+", modules[0])) if len(modules) == 2 else (0, 0)
    number = re.search(r"\d$", modules[-1])
    is_norm = "bn" in modules[-1]
    return (0, (stage, block, int(number[0]) if number else 9, is_norm), leaf)


def _torch_shape(path, shape) -> tuple[int, ...]:
    if path[-1] != "kernel":
        return tuple(shape)
    *window, features_in, features_out = shape
    return (features_out, features_in, *(window or (1,)))


def to_torch_layout(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    """Returns a tensor of the tree in PyTorch's layout, contiguous.

    Kernels `[h, w, in, out]` become `[out, in, h, w]`, mixing kernels `[in, out]` become
    `[out, in, 1]`, all else stays as it is.
    """
    if path[-1] == "kernel":
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T[..., None]
    return np.ascontiguousarray(value)


def from_torch_layout(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    """Returns a tensor of a state_dict in the tree's layout; the inverse of `to_torch_layout`."""
    if path[-1] == "kernel":
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value[..., 0].T
    return np.ascontiguousarray(value)


def insert(tree: dict[str, Any], path: tuple[str, ...], value) -> None:
    """Sets the leaf at `path` of a nested dict, making the dicts on the way."""
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
