"""The command line of export."""

import argparse
import pathlib
import re
from collections.abc import Sequence

from dmlcsr_jax.errors import UserError

SUFFIXES = (".onnx", ".stablehlo")


def _size(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"([1-9]\d*),([1-9]\d*)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not H,W in pixels, such as 512,512")
    return int(match[1]), int(match[2])


def parse_arguments(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Returns `checkpoint`, `to`, `scores`, `size`, `quantize` and `calibrate`.

    Args:
      argv: the arguments; None: the process's.
      description: shown by `--help`.

    Raises:
      UserError: where `--to` is no kind of file that can be made, or options do not go together.
    """
    parser = argparse.ArgumentParser(
        prog="python -m dmlcsr_jax.export",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint", default="default", help="a checkpoint's folder, a workdir, or weights"
    )
    parser.add_argument("--to", required=True, help="the .onnx or .stablehlo file to write")
    parser.add_argument(
        "--scores", action="store_true", help="every pixel's logits instead of its label"
    )
    parser.add_argument(
        "--size", type=_size, metavar="H,W", help="photographs of this size alone; default: any"
    )
    parser.add_argument("--quantize", choices=["int8"], help="convolutions in 8 bits; ONNX alone")
    parser.add_argument(
        "--calibrate", metavar="FOLDER", help="of photographs as they will come, for --quantize"
    )
    arguments = parser.parse_args(argv)
    if pathlib.PurePath(arguments.to).suffix not in SUFFIXES:
        raise UserError(f"{arguments.to} must end in {' or '.join(SUFFIXES)}.")
    if bool(arguments.quantize) != bool(arguments.calibrate):
        raise UserError("--quantize=int8 and --calibrate=FOLDER go together; give both.")
    if arguments.quantize and not arguments.to.endswith(".onnx"):
        raise UserError(f"--quantize makes .onnx files, not {arguments.to}; leave it or rename.")
    return arguments
