"""The command line of export."""

import argparse
import pathlib
import re
from collections.abc import Sequence

from dmlcsr_jax.errors import UserError

SUFFIXES = (".onnx", ".tflite", ".stablehlo")


def _size(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"([1-9]\d*),([1-9]\d*)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not H,W in pixels, such as 512,512")
    return int(match[1]), int(match[2])


def parse_arguments(argv: Sequence[str] | None, description: str) -> argparse.Namespace:
    """Returns `checkpoint`, `out`, `is_web`, `scores`, `size` and so on.

    Args:
      argv: the arguments; None: the process's.
      description: shown by `--help`.

    Raises:
      UserError: where `--out` is no kind of file that can be made, or options do not go together.
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
    parser.add_argument(
        "--out",
        "--to",
        required=True,
        help="the .onnx, .tflite or .stablehlo file to write, or a page's folder web/",
    )
    parser.add_argument(
        "--scores", action="store_true", help="every pixel's logits instead of its label"
    )
    parser.add_argument(
        "--size",
        type=_size,
        metavar="H,W",
        help="photographs of this size alone; default: any, .tflite: the network's",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16"],
        default="float32",
        help="in which weights are stored; all computes in float32 (default: float32)",
    )
    parser.add_argument(
        "--shared",
        action="store_true",
        help="the kernels stay in the .safetensors file that is exported, beside which the .onnx "
        "file is written",
    )
    parser.add_argument("--quantize", choices=["int8"], help="convolutions in 8 bits")
    parser.add_argument(
        "--calibrate", metavar="FOLDER", help="of photographs as they will come, for --quantize"
    )
    arguments = parser.parse_args(argv)
    arguments.is_web = arguments.out.endswith("/")
    if not arguments.is_web and pathlib.PurePath(arguments.out).suffix not in SUFFIXES:
        raise UserError(
            f"{arguments.out} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, "
            "or / for a page."
        )
    if arguments.is_web and (arguments.scores or arguments.size):
        raise UserError("--scores and --size are not for a page; leave them.")
    if bool(arguments.quantize) != bool(arguments.calibrate):
        raise UserError("--quantize=int8 and --calibrate=FOLDER go together; give both.")
    given = {"--quantize": arguments.quantize, "--dtype": arguments.dtype != "float32"}
    if any(given.values()) and arguments.out.endswith(".stablehlo"):
        option = next(name for name, is_given in given.items() if is_given)
        raise UserError(
            f"{option} is for .onnx and .tflite files, not {arguments.out}; leave it or rename."
        )
    if arguments.quantize and arguments.dtype != "float32":
        raise UserError("--quantize=int8 leaves no weights for --dtype=float16; give one of them.")
    if arguments.shared and (any(given.values()) or not arguments.out.endswith(".onnx")):
        raise UserError("--shared makes an .onnx file without --dtype and --quantize; leave these.")
    return arguments
