"""Converts weights between the released PyTorch network and the checkpoints of this project.

    python -m dmlcsr_jax.convert_torch --checkpoint=dml_csr_celebA.pth --out=DIR
    python -m dmlcsr_jax.convert_torch --checkpoint=DIR --out=weights.safetensors

Networks with an encoder EfficientNet-Lite, such as the package's (`--checkpoint=default`), go
there too; `docs/pytorch.md` describes theirs.

What a state_dict cannot say (class names, channel order, normalisation, input size) is written to
`FILE.json` beside it, and read from there on the way back; without it the released weights'
conventions hold, and options say otherwise.
"""

import argparse
import dataclasses
import json
import sys

import jax
from etils import epath

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.checkpoints.digests import digests, require_same_digests
from dmlcsr_jax.convert_torch import files
from dmlcsr_jax.convert_torch.network import from_state_dict, infer_metadata, to_state_dict
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.decode import read_bytes
from dmlcsr_jax.data.json_object import parse_object
from dmlcsr_jax.errors import UserError, exit_on_user_error
from dmlcsr_jax.models.metadata import Metadata


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
    state_dict = files.read(source)
    beside = files.sidecar(source)
    if beside.exists():
        metadata = _described(beside, source, state_dict)
        if label_set:
            metadata = dataclasses.replace(metadata, label_set=label_sets.get(label_set))
    else:
        metadata = infer_metadata(state_dict, str(source), label_set)
    metadata = dataclasses.replace(metadata, **pixels)
    variables = from_state_dict(state_dict, metadata, str(source))
    model.save_model(target, metadata, variables["params"], variables["batch_stats"])
    return _describe(metadata, variables)


def _described(beside, source, state_dict) -> Metadata:
    """Returns what the file beside a state_dict says of it, whose check sums are compared."""
    try:
        description = parse_object(read_bytes(beside), str(beside))
        sums = description.pop(model.DIGESTS, None)
        metadata = Metadata.from_json(description)
    except UserError as error:
        reason = str(error).rstrip(".")
        raise UserError(
            f"{beside} is not what was written beside {source} ({reason}); remove it."
        ) from error
    if sums is None:
        print(f"{beside} has no check sums of the tensors: {source} is taken as it is.")
        return metadata
    try:
        require_same_digests(state_dict, sums)
    except ValueError as error:
        raise UserError(
            f"{source} is not what was written with {beside} ({error}); get both again, or take "
            f'"{model.DIGESTS}" out of that file where the weights were changed on purpose.'
        ) from error
    return metadata


def export_weights(source, target) -> str:
    """Converts a checkpoint into a state_dict file, and writes its metadata to `TARGET.json`.

    There are also the digests of the tensors, which are compared on the way back.

    Args:
      source: a checkpoint, or a workdir, as `checkpoints.model.resolve` takes it.
      target: a `.pth`, `.pt` or `.safetensors` file, which must not exist.

    Returns:
      A description of the network.

    Raises:
      UserError: where the checkpoint cannot be read or the file cannot be written.
    """
    metadata, variables = model.load_model(source)
    state_dict = to_state_dict(variables)
    description = metadata.to_json() | {model.DIGESTS: digests(state_dict)}
    files.write(target, state_dict, json.dumps(description, indent=2) + "\n")
    return _describe(metadata, variables)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dmlcsr_jax.convert_torch",
        description="Converts released or own PyTorch weights into a checkpoint, and back.",
    )
    parser.add_argument(
        "--checkpoint", "--from", required=True, help="state_dict file, or checkpoint folder"
    )
    parser.add_argument(
        "--out", "--to", required=True, help="checkpoint folder, or state_dict file"
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


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    flags = _parse(sys.argv[1:] if arguments is None else arguments)
    names = ("label_set", "channel_order", "mean", "std", "image_size")
    options = {name: getattr(flags, name) for name in names if getattr(flags, name) is not None}
    options |= {name: tuple(options[name]) for name in ("mean", "std") if name in options}
    imports = files.is_state_dict_file(flags.checkpoint)
    if imports == files.is_state_dict_file(flags.out):
        raise UserError(
            f"one of --checkpoint={flags.checkpoint} and --out={flags.out} must be a .pth, .pt or "
            ".safetensors file and the other a checkpoint folder."
        )
    if imports:
        description = import_weights(flags.checkpoint, flags.out, **options)
    elif options:
        raise UserError(
            f"--{min(options)} is for state_dict files; the checkpoint {flags.checkpoint} knows "
            "its own."
        )
    else:
        description = export_weights(flags.checkpoint, flags.out)
    print(f"wrote {epath.Path(flags.out)}: {description}")


if __name__ == "__main__":
    main()
