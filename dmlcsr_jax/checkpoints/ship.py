"""Makes the two small files of a model from its checkpoint.

    python -m dmlcsr_jax.checkpoints.ship --checkpoint=DIR --out=mine.safetensors

writes `mine.safetensors` (params in float16) and `mine.json` (metadata). `--average_with=START`
ships the mean of the values and those of the model that training started from (`--share=0.3`: 0.3
of these, 0.7 of those): fine-tuned for other photographs, it then keeps more of what it could do on
its own (arXiv 2109.01903). `--checkpoint=` of evaluation, `predict` and `FaceParser`, and
`--config.model.init_from=`, take the `.safetensors` file as they take the folder.
"""

import argparse
import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from dmlcsr_jax import atomic_file
from dmlcsr_jax.checkpoints import model, weights_file
from dmlcsr_jax.errors import UserError, exit_on_user_error


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
      argv: the arguments; None: the process's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m dmlcsr_jax.checkpoints.ship",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--checkpoint", required=True, help="a checkpoint's folder, or a workdir")
    parser.add_argument("--out", "--to", required=True, help="the .safetensors file to write")
    parser.add_argument("--license", help="what the weights may be used for, in a sentence")
    parser.add_argument("--average_with", help="another checkpoint of the network, or default")
    parser.add_argument(
        "--share", type=float, default=0.5, help="of that one in the average (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.share <= 1:
        raise UserError(f"--share is {arguments.share:g}; it must be from 0 to 1.")
    atomic_file.require_place(arguments.out)
    metadata, variables = model.load_model(arguments.checkpoint)
    if arguments.license is not None:
        metadata = dataclasses.replace(metadata, license=arguments.license)
    tensors = model.named_leaves(jax.device_get(variables))
    if arguments.average_with:
        other, share = arguments.average_with, arguments.share
        tensors = _averaged(tensors, arguments.checkpoint, other, share)
    weights_file.write(arguments.out, metadata, tensors)
    count = sum(tensor.size for tensor in tensors.values())
    print(f"{arguments.out}: {len(tensors)} tensors, {count / 1e6:.2f} million values")


def _averaged(
    tensors: dict[str, np.ndarray], checkpoint: str, other: str, share: float
) -> dict[str, np.ndarray]:
    """Returns the tensors mixed with the share of another checkpoint's of the same shapes."""
    others = model.named_leaves(jax.device_get(model.load_model(other)[1]))
    shapes, there = ({n: t.shape for n, t in each.items()} for each in (tensors, others))
    if differing := sorted(n for n in shapes | there if shapes.get(n) != there.get(n)):
        raise UserError(
            f"{checkpoint} and {other} are of different networks: {differing[0]} differs; average "
            "models of the same network and label set."
        )
    return {
        name: (1 - share) * tensors[name] + share * np.asarray(others[name]) for name in tensors
    }


if __name__ == "__main__":
    main()
