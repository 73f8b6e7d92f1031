"""Converts weights between the released PyTorch network and the checkpoints of this project.

    python -m dmlcsr_jax.convert_torch --from=dml_csr_celebA.pth --to=DIR
    python -m dmlcsr_jax.convert_torch --from=DIR --to=weights.safetensors

What a state_dict cannot say (class names, channel order, normalisation, input size) is written to
`FILE.json` beside it, and read from there on the way back; without it the released weights'
conventions hold, and options say otherwise.
"""

import argparse
import dataclasses
import json
import re
import sys
from typing import Any

import jax
import numpy as np
from etils import epath

from dmlcsr_jax import checkpointing, torch_files, torch_names
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError, exit_on_user_error
from dmlcsr_jax.metadata import Metadata
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
    classifier = state_dict.get(torch_names.CLASSIFIER)
    if classifier is None or classifier.ndim != 4:
        found = "none" if classifier is None else classifier.shape
        raise UserError(
            f"{name} lacks the tensor {torch_names.CLASSIFIER}: needed is the shape (classes, 256, "
            f"1, 1), found {found}; it is not a DML-CSR network (for an ImageNet encoder use "
            "--config.model.pretrained)."
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
        edge_branch=any(key.startswith(torch_names.EDGE_PREFIX) for key in state_dict),
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
      UserError: names the first tensor that is missing, extra, of another shape or not of floats.
    """
    variables = {"params": {}, "batch_stats": {}}
    expected = set()
    for tensor in torch_names.tensors(checkpointing.abstract_variables(metadata)):
        key, needed = tensor.torch_name, tensor.torch_shape
        expected.add(key)
        if key not in state_dict:
            raise UserError(
                f"{name} lacks the tensor {key}: needed is the shape {needed}, found none; it is "
                f"not a whole DML-CSR network with the encoder {metadata.encoder}."
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
        torch_names.insert(
            variables, tensor.path, torch_names.from_torch_layout(tensor.path, value)
        )
    for key, value in state_dict.items():
        if key not in expected and not key.endswith(torch_names.COUNTER):
            raise UserError(
                f"{name} has the tensor {key} of shape {value.shape} where the network with the "
                f"encoder {metadata.encoder} has none; it is of another architecture."
            )
    return variables


def to_state_dict(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Turns `{"params", "batch_stats"}` into the state_dict of the PyTorch network, bit for bit."""
    leaves = checkpointing.named_leaves(variables)
    return {
        tensor.torch_name: torch_names.to_torch_layout(
            tensor.path, np.asarray(jax.device_get(leaves["/".join(tensor.path)]))
        )
        for tensor in torch_names.tensors(variables)
    }


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
      UserError: where the file cannot be read or no convolution of it fits.
    """
    state_dict = _with_plain_stem(torch_files.read(file))
    branch = {
        "params": {"encoder": params["encoder"]},
        "batch_stats": {"encoder": batch_stats["encoder"]},
    }
    units: dict[str, list[torch_names.Tensor]] = {}
    for tensor in torch_names.tensors(branch):
        module, _, _ = tensor.torch_name.rpartition(".")
        units.setdefault(_convolution_of(module), []).append(tensor)

    def fits(tensor):
        value = state_dict.get(tensor.torch_name)
        return value is not None and value.dtype == np.float32 and value.shape == tensor.torch_shape

    leaves = checkpointing.named_leaves(branch)
    result: dict[str, Any] = {}
    loaded, fresh = [], []
    for unit in units.values():
        takes = all(map(fits, unit))
        for tensor in unit:
            leaf = leaves["/".join(tensor.path)]
            if takes:
                value = torch_names.from_torch_layout(tensor.path, state_dict[tensor.torch_name])
                leaf = value.astype(leaf.dtype)
            torch_names.insert(result, tensor.path, leaf)
            (loaded if takes else fresh).append(tensor.torch_name)
    if not loaded:
        raise UserError(
            f"nothing in {file} fits the encoder {encoder} with the stem {stem}"
            f"{_example(units, state_dict)}; set config.model.encoder and config.model.stem to the "
            "file's, and config.model.width to 1, or name another file."
        )
    skipped = [
        name for name in state_dict if name not in loaded and not name.endswith(torch_names.COUNTER)
    ]
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


def _describe(metadata: Metadata, variables) -> str:
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    label_set, edge = metadata.label_set, "with" if metadata.edge_branch else "without"
    return (
        f"{metadata.encoder} ({metadata.stem} stem, width {metadata.width:g}), "
        f"{label_set.num_classes} classes ({label_set.name}), {edge} edge branch, "
        f"{count / 1e6:.2f} M parameters; fed {metadata.channel_order.upper()} pixels of "
        f"{metadata.image_size}x{metadata.image_size}, mean {metadata.mean}, std {metadata.std}"
    )


def import_weights(source, target, *, label_set=None, **pixels) -> str:
    """Converts a state_dict file into a checkpoint.

    Args:
      source: a `.pth`, `.pt` or `.safetensors` file; `SOURCE.json` beside it is read if there.
      target: the checkpoint's folder, which must not exist.
      label_set: name of a label set or a label-name file; by default the file's own or guessed.
      **pixels: `channel_order`, `mean`, `std`, `image_size`, where not those of the file or of the
        released weights.

    Returns:
      A description of the network.

    Raises:
      UserError: where the file is damaged or does not fit; nothing is written then.
    """
    state_dict = torch_files.read(source)
    beside = torch_files.sidecar(source)
    if beside.exists():
        try:
            metadata = Metadata.from_json(json.loads(beside.read_text()))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            reason = str(error).rstrip(".")
            raise UserError(
                f"{beside} is not what was written beside {source} ({reason}); remove it."
            ) from error
        if label_set:
            metadata = dataclasses.replace(metadata, label_set=label_sets.get(label_set))
    else:
        metadata = infer_metadata(state_dict, str(source), label_set)
    metadata = dataclasses.replace(metadata, **pixels)
    variables = from_state_dict(state_dict, metadata, str(source))
    checkpointing.save_model(target, metadata, variables["params"], variables["batch_stats"])
    return _describe(metadata, variables)


def export_weights(source, target) -> str:
    """Converts a checkpoint into a state_dict file, and writes its metadata to `TARGET.json`.

    Args:
      source: a checkpoint, or a workdir, as `checkpointing.resolve` takes it.
      target: a `.pth`, `.pt` or `.safetensors` file, which must not exist.

    Returns:
      A description of the network.

    Raises:
      UserError: where the checkpoint cannot be read or the file cannot be written.
    """
    metadata, variables = checkpointing.load_model(source)
    description = json.dumps(metadata.to_json(), indent=2) + "\n"
    torch_files.write(target, to_state_dict(variables), description)
    return _describe(metadata, variables)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dmlcsr_jax.convert_torch",
        description="Converts released or own PyTorch weights into a checkpoint, and back.",
    )
    parser.add_argument(
        "--from", dest="source", required=True, help="state_dict file, or checkpoint folder"
    )
    parser.add_argument(
        "--to", dest="target", required=True, help="checkpoint folder, or state_dict file"
    )
    weights = parser.add_argument_group(
        "for a state_dict file",
        "where it is neither as FILE.json beside it says nor, without one, as the released weights",
    )
    weights.add_argument("--label_set", help="label set's name or label-name file")
    weights.add_argument(
        "--channel_order", choices=("bgr", "rgb"), help="in which it is fed (default: bgr)"
    )
    weights.add_argument(
        "--mean", nargs=3, type=float, help="of the channels in that order, on the scale of 0 to 1"
    )
    weights.add_argument(
        "--std", nargs=3, type=float, help="of the channels in that order, on the scale of 0 to 1"
    )
    weights.add_argument("--image_size", type=int, help="side of the input (default: 473)")
    return parser.parse_args(arguments)


def _check_pixels(options: dict[str, Any]) -> None:
    if min(options.get("std", [1.0])) <= 0:
        raise UserError(f"--std is {options['std']}; it must be three numbers above 0.")
    if options.get("image_size", 32) < 32:
        raise UserError(f"--image_size is {options['image_size']}; it must be 32 or more.")


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    flags = _parse(sys.argv[1:] if arguments is None else arguments)
    names = ("label_set", "channel_order", "mean", "std", "image_size")
    options = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    options |= {name: tuple(options[name]) for name in ("mean", "std") if name in options}
    imports = torch_files.is_state_dict_file(flags.source)
    if imports == torch_files.is_state_dict_file(flags.target):
        raise UserError(
            f"one of --from={flags.source} and --to={flags.target} must be a .pth, .pt or "
            ".safetensors file and the other a checkpoint folder."
        )
    if imports:
        _check_pixels(options)
        description = import_weights(flags.source, flags.target, **options)
    elif options:
        raise UserError(
            f"--{min(options)} is for state_dict files; the checkpoint {flags.source} knows its "
            "own."
        )
    else:
        description = export_weights(flags.source, flags.target)
    print(f"wrote {epath.Path(flags.target)}: {description}")


if __name__ == "__main__":
    main()
