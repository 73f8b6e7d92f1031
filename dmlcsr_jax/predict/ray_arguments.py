"""The arguments of the command line that are about Ray."""

import argparse
import math

from dmlcsr_jax.errors import UserError


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds `--ray`, `--ray_actor` and `--ray_actors`."""
    add = parser.add_argument
    add(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="label photographs, or the rows of Parquet files, on a Ray cluster; without an "
        "address that of RAY_ADDRESS, else all of this machine (last, or as --ray=ADDRESS)",
    )
    add(
        "--ray_actor",
        type=_resources,
        default={},
        metavar="NAME=N,...",
        help="what each of Ray's actors takes, such as CPU=4 or GPU=1,CPU=8 (default: a host's TPU "
        "chips, else a GPU, else the cores of the smallest machine)",
    )
    add("--ray_actors", type=int, help="how many there are (default: as many as fit)")


def check(arguments: argparse.Namespace) -> None:
    """Checks what goes together.

    Raises:
      UserError: where something does not.
    """
    if arguments.ray is None:
        for name in ("ray_actor", "ray_actors"):
            if getattr(arguments, name):
                raise UserError(f"--{name} is for --ray; give both.")
        return
    if arguments.distributed or arguments.process_index is not None:
        raise UserError(
            "--ray shares the photographs among its actors; leave --distributed, --process_index "
            "and --process_count."
        )
    if arguments.shards:
        raise UserError("--ray writes a file a photograph; leave --shards.")
    if arguments.ray_actors is not None and arguments.ray_actors < 1:
        raise UserError(f"--ray_actors is {arguments.ray_actors}; it must be 1 or more.")


def _resources(text: str) -> dict[str, float]:
    pairs = [part.partition("=") for part in text.split(",")]
    try:
        found = {name.strip(): float(number) for name, _, number in pairs}
    except ValueError as error:
        message = f"{text!r} is no list such as GPU=1,CPU=8"
        raise argparse.ArgumentTypeError(message) from error
    if not all(name and 0 < number < math.inf for name, number in found.items()):
        raise argparse.ArgumentTypeError(f"{text!r}: each is a name and a number above 0")
    return found
