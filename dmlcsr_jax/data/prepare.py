"""Prepares a data set as its authors ship it for training and evaluation.

    python -m dmlcsr_jax.data.prepare --dataset=celebamask_hq --root=DIR --out=DIR

reads every image and label once, checks them, and writes ArrayRecord files below `--out`, which is
then the data's root. An interrupted run goes on from its finished files when it is started again.
"""

import argparse
import pathlib
import signal
import sys
from collections.abc import Sequence

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data import limits as limits_lib
from dmlcsr_jax.data.builders import BUILDERS, Options
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError, exit_on_user_error


def prepare(
    dataset: str,
    source: str | pathlib.Path,
    to: str | pathlib.Path,
    *,
    options: Options | None = None,
    num_workers: int | None = None,
    limits: Limits = limits_lib.DEFAULT,
) -> pathlib.Path:
    """Prepares a data set; does nothing where it is prepared already.

    Args:
      dataset: a name in `builders.BUILDERS`.
      source: the folder that the authors' archive was unpacked in.
      to: where to write.
      options: choices, see `builders.Options`.
      num_workers: number of processes; None for one a core.
      limits: what a file of the set may cost.

    Returns:
      The folder of the prepared set, `{to}/{dataset}/{version}`.

    Raises:
      UserError: where a piece is missing, a file is damaged, or there is no room.
    """
    if dataset not in BUILDERS:
        raise UserError(f"there is no data set {dataset!r}; the sets are {', '.join(BUILDERS)}.")
    builder = BUILDERS[dataset](
        source=source, data_dir=to, options=options, num_workers=num_workers, limits=limits
    )
    builder.prepare()
    counts = ", ".join(f"{count:,} {split}" for split, count in builder.counts.items())
    print(f"{builder.data_dir} holds {counts}.")
    return pathlib.Path(builder.data_dir)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dmlcsr_jax.data.prepare",
        description="Prepares a data set as its authors ship it for training and evaluation.",
    )
    defaults = Options()
    add = parser.add_argument
    add("--dataset", required=True, choices=tuple(BUILDERS), help="which set")
    add(
        "--root", "--source", required=True, help="folder that the authors' archive was unpacked in"
    )
    add("--out", "--to", required=True, help="folder to write to, the data's root from then on")
    add(
        "--max_side",
        type=int,
        help="reduce the training photographs' longer sides to at most this many pixels, for "
        "speed; evaluation stays at original size",
    )
    add(
        "--jpeg_quality",
        type=int,
        help="encode every photograph anew as JPEG of this quality, 1 to 100 (the authors' own "
        "bytes unless given; 95 for reduced ones)",
    )
    add(
        "--allow_partial",
        action="store_true",
        help="take a set that is not complete, leaving out images without label",
    )
    add("--num_workers", type=int, help="number of processes (one a core unless given)")
    limits = limits_lib.DEFAULT
    add(
        "--max_file_bytes",
        type=int,
        default=limits.file_bytes,
        help="of any file; a larger one ends the run (%(default)s)",
    )
    add(
        "--max_pixels",
        type=int,
        default=limits.pixels,
        help="of a photograph or label; a larger one ends the run (%(default)s)",
    )
    add(
        "--max_seconds",
        type=float,
        default=limits.seconds,
        help="to read one example; a longer time ends the run (%(default)s)",
    )
    add("--label_set", help="folder: a label set's name or file (label_names.txt unless given)")
    add(
        "--val_fraction",
        type=float,
        default=defaults.val_fraction,
        help="face_synthetics: share of the validation split (%(default)s)",
    )
    add(
        "--test_fraction",
        type=float,
        default=defaults.test_fraction,
        help="face_synthetics: share of the test split (%(default)s)",
    )
    add(
        "--split_seed",
        type=int,
        default=defaults.split_seed,
        help="face_synthetics: which images fall into which split (%(default)s)",
    )
    return parser


@exit_on_user_error
def main(argv: Sequence[str] | None = None):
    """Runs the command; Ctrl-C ends it, and the same command goes on from the finished files."""
    # A shell that starts it in the background has it ignore SIGINT, with which it is to be stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = _parser().parse_args(argv)
    if arguments.num_workers is not None and arguments.num_workers < 1:
        raise UserError(f"--num_workers is {arguments.num_workers}; it must be 1 or more.")
    options = Options(
        max_side=arguments.max_side,
        jpeg_quality=arguments.jpeg_quality,
        allow_partial=arguments.allow_partial,
        label_set=label_sets.get(arguments.label_set) if arguments.label_set else None,
        val_fraction=arguments.val_fraction,
        test_fraction=arguments.test_fraction,
        split_seed=arguments.split_seed,
    )
    limits = Limits(
        file_bytes=arguments.max_file_bytes,
        pixels=arguments.max_pixels,
        seconds=arguments.max_seconds,
    )
    try:
        prepare(
            arguments.dataset,
            arguments.root,
            arguments.out,
            options=options,
            num_workers=arguments.num_workers,
            limits=limits,
        )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the finished files.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
