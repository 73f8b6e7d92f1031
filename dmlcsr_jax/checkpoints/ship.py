"""Makes the two small files of a model from its checkpoint.

    python -m dmlcsr_jax.checkpoints.ship --checkpoint=DIR --to=mine.safetensors

writes `mine.safetensors` (params in float16) and `mine.json` (metadata). `--checkpoint=` of
evaluation, `predict` and `FaceParser`, and `--config.model.init_from=`, take the `.safetensors`
file as they take the folder.
"""

import argparse
import dataclasses
from collections.abc import Sequence

import jax

from dmlcsr_jax.checkpoints import model, weights_file
from dmlcsr_jax.errors import exit_on_user_error


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
    parser.add_argument("--to", required=True, help="the .safetensors file to write")
    parser.add_argument("--license", help="what the weights may be used for, in a sentence")
    arguments = parser.parse_args(argv)
    metadata, variables = model.load_model(arguments.checkpoint)
    if arguments.license is not None:
        metadata = dataclasses.replace(metadata, license=arguments.license)
    tensors = model.named_leaves(jax.device_get(variables))
    weights_file.write(arguments.to, metadata, tensors)
    count = sum(tensor.size for tensor in tensors.values())
    print(f"{arguments.to}: {len(tensors)} tensors, {count / 1e6:.2f} million values")


if __name__ == "__main__":
    main()
