"""The arguments of the command line."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

from dmlcsr_jax.data import limits as limits_lib
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import ray_arguments
from dmlcsr_jax.predict.annotations import FORMATS, require_packages
from dmlcsr_jax.predict.faces import check_choice
from dmlcsr_jax.predict.onnx_runtimes import BACKENDS


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says; `--help` explains each."""

    inputs: tuple[str, ...]
    checkpoint: str
    backend: str | None
    out: str
    classes: bool
    json: bool
    faces: str
    face: str | int
    batch_size: int
    flip: bool
    scales: tuple[float, ...]
    dtype: str
    overlay_alpha: float
    no_overlay: bool
    no_steady: bool
    masks: tuple[str, ...]
    cutout: tuple[str, ...]
    each_face: bool
    grow: str
    feather: str
    clean: float
    soft: bool
    soft_bits: int
    format: tuple[str, ...]
    review: int
    boxes: str | None
    margin: float | None
    wide_margin: float | None
    limits: Limits
    read_ahead_bytes: int
    split: str
    shards: bool
    records_per_shard: int
    process_index: int | None
    process_count: int | None
    distributed: bool
    ray: str | None
    ray_actor: Mapping[str, float]
    ray_actors: int | None


def parse_arguments(argv: Sequence[str] | None, description: str) -> Options:
    """Parses the command line.

    Args:
      argv: the arguments; None: the process's.
      description: what --help says above the list.

    Raises:
      UserError: where a value is impossible. What the network or the inputs decide (batch size,
        scales, margin, dtype, split, boxes) is checked where it is used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m dmlcsr_jax.predict",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("inputs", nargs="*", help="photographs, videos, folders; or ArrayRecord; or a prepared set")
    add(
        "--checkpoint",
        default="default",
        help="a checkpoint's folder, a run's workdir, weights.safetensors, or a model.onnx that "
        "`python -m dmlcsr_jax.export` wrote (default: the model that comes with the package)",
    )
    add(
        "--backend",
        choices=("jax", *BACKENDS),
        help="what runs a model.onnx, and the model that comes with the package: ONNX Runtime or "
        "OpenVINO (default: the one installed, first OpenVINO; without either, or where there may "
        "be an accelerator, JAX); other checkpoints run on JAX",
    )
    add("--out", default="parsed", help="folder of the outputs (default: parsed)")
    add(
        "--classes",
        action="store_true",
        help="print the checkpoint's classes: index, name, in words, colour, whose left; and parse "
        "nothing",
    )
    add(
        "--json",
        action="store_true",
        help="print a line of JSON a photograph, also of those labelled before: faces, boxes, "
        "pixels a part, class names; all else goes to standard error",
    )
    add(
        "--faces",
        choices=("auto", "whole"),
        default="auto",
        help="auto: faces are found by the detector of the extra 'faces', where it is installed; "
        "whole: photographs are parsed complete (default: auto)",
    )
    add(
        "--face",
        default="all",
        help="which faces are labelled: all, largest, central, or a number, 0 for the largest; all "
        "else is background (default: all)",
    )
    add("--batch_size", type=int, default=8, help="photographs parsed together (default: 8)")
    add("--flip", action="store_true", help="average with the mirrored photograph")
    add(
        "--scales",
        type=_numbers,
        default=(1.0,),
        metavar="S,S,...",
        help="average over these multiples of the input size (default: 1)",
    )
    add("--dtype", default="float32", help="of the computation: float32 or bfloat16")
    add("--overlay_alpha", type=float, default=0.5, help="share of the tint (default: 0.5)")
    add("--no_overlay", action="store_true", help="label maps alone")
    add("--no_steady", action="store_true", help="label each frame of a video by itself")
    add(
        "--masks",
        type=_names,
        default=(),
        metavar="PART,PART,...",
        help="write a mask a part, white on black, to masks/PART: names of classes; the groups "
        "lips, eyes, brows, ears, face, face_and_ears, face_and_glasses and head; regions such as "
        "forehead, chin, left_cheek, under_left_eye (the subject's left); or all, every class",
    )
    add(
        "--cutout",
        type=_names,
        default=(),
        metavar="PART,PART,...",
        help="write the photograph, transparent outside a part, to cutouts/PART; parts as --masks",
    )
    add("--each_face", action="store_true", help="a mask and a cutout a face, in face_0, face_1...")
    add(
        "--grow",
        default="0",
        metavar="PIXELS|SHARE%",
        help="move the edge of masks and cutouts outwards, by pixels or a share of the "
        "photograph's longer side such as 1%%; negative: inwards (--grow=-2)",
    )
    add(
        "--feather",
        default="0",
        metavar="PIXELS|SHARE%",
        help="over how much, across the edge, masks and cutouts rise from 0 to 255",
    )
    add(
        "--clean",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="remove islands and holes of fewer pixels than this share of the mask's, such as 0.01",
    )
    add(
        "--soft",
        action="store_true",
        help="masks and cutouts whose edges are soft: probabilities, refined along the "
        "photograph's edges by the package pymatting",
    )
    add("--soft_bits", type=int, choices=(8, 16), default=8, help="of soft masks (default: 8)")
    add(
        "--format",
        type=_names,
        default=(),
        metavar="FORMAT,...",
        help=f"write the labels for other tools too: {', '.join(FORMATS)}; coco needs the package "
        "pycocotools",
    )
    add(
        "--review",
        type=int,
        default=0,
        metavar="N",
        help="list the N photographs that are most worth correcting, the least sure first, here "
        "and in review.txt",
    )
    add(
        "--boxes",
        metavar="CSV",
        help="face boxes, name,x0,y0,x1,y1 with a header, name as below the input folder; each "
        "face is parsed in a crop of its own, and all outside is background; none are looked for",
    )
    add(
        "--margin",
        type=float,
        help="what a crop shows beyond its box, as a share of its longer side (default: as the "
        "network was trained, else 0.4)",
    )
    add(
        "--wide_margin",
        type=float,
        help="the same of a second view of each face that is found, around which there is one of "
        "the complete person or photograph; they label hair and clothes beyond the first; 0: none "
        "(default: 1.5, or 0 where the network was trained on crops)",
    )
    limits = limits_lib.DEFAULT
    add(
        "--max_file_bytes",
        type=int,
        default=limits.file_bytes,
        help="of an encoded photograph; larger ones are refused (default: %(default)s)",
    )
    add(
        "--max_pixels",
        type=int,
        default=limits.pixels,
        help="of a photograph or a frame (default: %(default)s)",
    )
    add("--max_frames", type=int, default=limits.frames, help="of a video (default: %(default)s)")
    add(
        "--max_seconds",
        type=float,
        default=limits.seconds,
        help="to decode a photograph or a frame, after which it is given up (default: %(default)s)",
    )
    add(
        "--read_ahead_bytes",
        type=int,
        default=2**31,
        help="memory for decoded photographs that wait; larger ones are read again for their "
        "overlay (default: %(default)s)",
    )
    add("--split", default="all", help="of a prepared set (default: all)")
    add("--shards", action="store_true", help="ArrayRecord shards instead of a file a photograph")
    add("--records_per_shard", type=int, default=1024, help="in each shard (default: 1024)")
    add("--process_index", type=int, help="number of this process, from 0")
    add("--process_count", type=int, help="processes that share the photographs")
    add(
        "--distributed",
        action="store_true",
        help="find the other processes by the cluster: Cloud TPU, GKE, Slurm",
    )
    ray_arguments.add_to(parser)
    arguments = parser.parse_args(argv)
    if not arguments.inputs and not arguments.classes:
        parser.error("name photographs, videos or folders to parse")
    if not 0 <= arguments.overlay_alpha <= 1:
        raise UserError(f"--overlay_alpha is {arguments.overlay_alpha}; it must be 0 to 1.")
    if arguments.records_per_shard < 1:
        raise UserError(
            f"--records_per_shard is {arguments.records_per_shard}; it must be 1 or more."
        )
    if arguments.read_ahead_bytes < 1:
        raise UserError(
            f"--read_ahead_bytes is {arguments.read_ahead_bytes}; it must be 1 or more."
        )
    if not (arguments.masks or arguments.cutout):
        for name in ("each_face", "grow", "feather", "clean", "soft"):
            if getattr(arguments, name) != parser.get_default(name):
                raise UserError(f"--{name} is for --masks and --cutout; give one of them.")
    if arguments.soft_bits != 8 and not arguments.soft:
        raise UserError("--soft_bits is for --soft; give both.")
    if arguments.each_face and arguments.face != "all":
        raise UserError("--each_face writes all faces and --face chooses some; leave one of them.")
    if unknown := [name for name in arguments.format if name not in FORMATS]:
        raise UserError(f"--format: there is no {unknown[0]!r}; there are {', '.join(FORMATS)}.")
    require_packages(arguments.format)
    if arguments.review < 0:
        raise UserError(f"--review is {arguments.review}; it must be 1 or more.")
    alone = (arguments.process_count or 1) == 1 and not arguments.distributed
    if (arguments.format or arguments.review) and not (alone and arguments.ray is None):
        raise UserError(
            "--format and --review look at all label maps: leave them to the same command without "
            "further processes, which labels nothing twice."
        )
    _check_processes(arguments)
    ray_arguments.check(arguments)
    given = vars(arguments)
    of_limits = ("file_bytes", "pixels", "frames", "seconds")
    limits = Limits(**{name: given.pop(f"max_{name}") for name in of_limits})
    given |= {"inputs": tuple(arguments.inputs), "face": check_choice(arguments.face)}
    return Options(**given, limits=limits)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        message = f"{text!r} is no list of numbers such as 0.75,1,1.25"
        raise argparse.ArgumentTypeError(message) from error


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of parts such as hair,lips")
    return names


def _check_processes(arguments: argparse.Namespace) -> None:
    index, count = arguments.process_index, arguments.process_count
    if (index is None) != (count is None):
        raise UserError("--process_index and --process_count go together; give both.")
    if index is not None:
        if arguments.distributed:
            raise UserError("--distributed finds --process_index and --process_count; leave them.")
        if count < 1:
            raise UserError(f"--process_count is {count}; it must be 1 or more.")
        if not 0 <= index < count:
            raise UserError(f"--process_index is {index}; it must be 0 to {count - 1}.")
