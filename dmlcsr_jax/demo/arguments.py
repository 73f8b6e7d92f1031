"""The arguments of the command line."""

import argparse
from collections.abc import Sequence

from dmlcsr_jax.data import limits as limits_lib
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError

_MOST_UPLOADED = 2**25


def parse_arguments(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Parses the command line.

    Args:
      argv: the arguments; None: the process's.
      description: what --help says above the list.

    Raises:
      UserError: where a value is impossible.
    """
    parser = argparse.ArgumentParser(
        prog="python -m dmlcsr_jax.demo",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        default="default",
        help="a checkpoint's folder, a run's workdir, weights.safetensors, or a model.onnx "
        "(default: the model that comes with the package)",
    )
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 lets other machines in (default: %(default)s)",
    )
    add(
        "--host_name",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which browsers call this page, as that of a proxy before it; may be given "
        "several times (localhost, this machine's name and addresses need not)",
    )
    add("--port", type=int, help="(default: the first free one from 7860)")
    add(
        "--max_file_bytes",
        type=int,
        default=_MOST_UPLOADED,
        help="of an uploaded photograph (default: %(default)s)",
    )
    add(
        "--max_pixels",
        type=int,
        default=limits_lib.DEFAULT.pixels,
        help="of a photograph (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    if arguments.port is not None and not 1 <= arguments.port <= 65535:
        raise UserError(f"--port is {arguments.port}; it must be 1 to 65535.")
    arguments.limits = Limits(file_bytes=arguments.max_file_bytes, pixels=arguments.max_pixels)
    return arguments
