"""Label maps and overlays of photographs, folders, videos and ArrayRecord files.

    python -m dmlcsr_jax.predict PHOTO_OR_FOLDER [...] --checkpoint=DIR --out=DIR

writes, in `--out`,

    labels/NAME.png        palette label map at the photograph's size: its indices are the labels
    overlays/NAME.jpg      the photograph with its parts tinted
    labels/VIDEO.mp4/      a label map a frame; overlays/VIDEO.mp4 the tinted video, without sound
    names.txt              the classes, label 0 first; label_set.json has colours and the rest
    failed.txt             what could not be read, where there is such; then the exit status is 1

Subfolders are kept. A photograph is read in its EXIF orientation. What is finished is not made
again, so that a run that was stopped goes on by the same command.

Labelling of very many photographs is split over processes by `--process_index` and
`--process_count`, or by JAX's distributed runtime with `--distributed`; `--shards`, and any
ArrayRecord input, gives `labels/labels.array_record-00000-of-NNNNN` instead of a file each. What
could not be read has an empty record there, and is tried again where its shard is removed.
"""

import argparse
import collections
import dataclasses
import hashlib
import signal
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from tqdm import tqdm

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.distributed import preemption, watchdog
from dmlcsr_jax.errors import UserError, exit_on_user_error
from dmlcsr_jax.predict import outputs as outputs_lib
from dmlcsr_jax.predict import shards as shards_lib
from dmlcsr_jax.predict.boxes import read_boxes
from dmlcsr_jax.predict.face_parser import FaceParser, Photograph
from dmlcsr_jax.predict.photographs import PhotoFiles, Picture
from dmlcsr_jax.predict.records import RecordFiles
from dmlcsr_jax.predict.video import num_frames, parse_video

__all__ = ["FaceParser", "main"]

# Failures beyond these stand in failed.txt alone.
_MAX_PRINTED = 20
# Processes end at different times; those that are done wait so long for the others.
_SHUTDOWN_SECONDS = 7 * 24 * 3600


class _AlreadyLabelled(UserError):
    """The outputs of a photograph are there and newer than it."""


@dataclasses.dataclass
class _Tally:
    """What has become of this process's pictures."""

    num_labelled: int = 0
    num_skipped: int = 0
    num_without_box: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)

    def add(self, result) -> None:
        if isinstance(result, _AlreadyLabelled):
            self.num_skipped += 1
        elif isinstance(result, UserError):
            # File names may be bytes that no text has.
            self.failed.append(str(result).encode(errors="replace").decode())
        else:
            self.num_labelled += 1


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dmlcsr_jax.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("inputs", nargs="+", help="photographs, videos, folders; or one ArrayRecord file or folder")
    add("--checkpoint", required=True, help="a checkpoint's folder, or a run's workdir")
    add("--out", required=True, help="folder of the outputs")
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
    add(
        "--boxes",
        metavar="CSV",
        help="face boxes, name,x0,y0,x1,y1 with a header, name as below the input folder; each "
        "face is parsed in a crop of its own, and all outside is background",
    )
    add(
        "--margin",
        type=float,
        help="what a crop shows beyond its box, as a share of its longer side (default: as the "
        "network was trained, else 0.5)",
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
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.overlay_alpha <= 1:
        raise UserError(f"--overlay_alpha is {arguments.overlay_alpha}; it must be 0 to 1.")
    if arguments.records_per_shard < 1:
        raise UserError(
            f"--records_per_shard is {arguments.records_per_shard}; it must be 1 or more."
        )
    _check_processes(arguments)
    return arguments


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        message = f"{text!r} is no list of numbers such as 0.75,1,1.25"
        raise argparse.ArgumentTypeError(message) from error


def _check_processes(arguments: argparse.Namespace) -> None:
    index, count = arguments.process_index, arguments.process_count
    if (index is None) != (count is None):
        raise UserError("--process_index and --process_count go together; give both.")
    if index is not None:
        if arguments.distributed:
            raise UserError("--distributed finds --process_index and --process_count; leave them.")
        if not 0 <= index < count:
            raise UserError(f"--process_index is {index}; it must be 0 to {count - 1}.")


def _open_source(arguments: argparse.Namespace) -> PhotoFiles | RecordFiles:
    if not any(map(RecordFiles.recognizes, arguments.inputs)):
        if arguments.split != "all":
            raise UserError("--split is for prepared sets; leave it.")
        return PhotoFiles(arguments.inputs)
    if len(arguments.inputs) > 1:
        raise UserError("ArrayRecord input must be the only one; give its folder.")
    return RecordFiles(arguments.inputs[0], arguments.split)


def _fingerprint(variables) -> str:
    """Returns a check sum of a network's tensors."""
    digest = hashlib.sha256()
    for name, leaf in sorted(model.named_leaves(variables).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def _share(picture: Picture, process_count: int) -> int:
    """Returns the process that labels a picture, by its name: files may come and go meanwhile."""
    return zlib.crc32(picture.name.encode(errors="surrogateescape")) % process_count


def _count(source: Iterable[Picture], process_count: int) -> tuple[list[int], int]:
    """Returns each process's number of pictures and a check sum of all names, holding one."""
    numbers, checksum = [0] * process_count, 0
    for picture in source:
        numbers[_share(picture, process_count)] += 1
        checksum = zlib.crc32(picture.name.encode(errors="surrogateescape"), checksum)
    return numbers, checksum


class _Prediction:
    """One run over one process's share."""

    def __init__(self, arguments: argparse.Namespace):
        self._arguments = arguments
        if arguments.process_index is None:
            # The first look at the devices, at which processes wait for each other.
            arguments.process_index = jax.process_index()
            arguments.process_count = jax.process_count()
        self._source = _open_source(arguments)
        self._boxes = read_boxes(arguments.boxes) if arguments.boxes else {}
        self._parser = FaceParser(
            arguments.checkpoint,
            batch_size=arguments.batch_size,
            flip=arguments.flip,
            scales=arguments.scales,
            margin=arguments.margin,
            dtype=arguments.dtype,
        )
        self._is_sharded = arguments.shards or isinstance(self._source, RecordFiles)
        has_overlay = not (arguments.no_overlay or self._is_sharded)
        self._alpha = arguments.overlay_alpha if has_overlay else None
        numbers, names_checksum = _count(self._source, arguments.process_count)
        self._num_pictures, self._num_own = sum(numbers), numbers[arguments.process_index]
        if self._num_pictures == 0:
            raise UserError(f"{self._source.base} holds no photograph.")
        metadata = self._parser.metadata
        settings = {
            "inputs_below": str(self._source.base),
            "network": _fingerprint(self._parser.variables),
            "label_set": metadata.label_set.name,
            "flip": arguments.flip,
            "scales": arguments.scales,
            "dtype": arguments.dtype,
            "overlay_alpha": self._alpha,
            "boxes": zlib.crc32(repr(sorted(self._boxes.items())).encode())
            if self._boxes
            else None,
            "margin": self._parser.margin if self._boxes else None,
            "shards_of": arguments.records_per_shard if self._is_sharded else None,
            # Which record is which picture's depends on all names.
            "pictures": [self._num_pictures, names_checksum] if self._is_sharded else None,
        }
        self._out = outputs_lib.open_folder(
            arguments.out, metadata.label_set, settings, str(arguments.checkpoint)
        )
        print(
            f"labels: {metadata.label_set.convention}; network input {metadata.image_size} pixels "
            f"square, {metadata.channel_order}",
            flush=True,
        )
        if metadata.crop_margin is not None and not self._boxes:
            print(
                "warning: the network was trained on crops of faces but is shown whole "
                "photographs; give the faces by --boxes.",
                file=sys.stderr,
            )
        self._tally = _Tally()
        self._lock = threading.Lock()

    def run(self) -> bool:
        """Labels this process's share; returns whether all of it could be read."""
        started = time.perf_counter()
        run = self._run_shards if self._is_sharded else self._run_files
        run()
        self._report(time.perf_counter() - started)
        return not self._tally.failed

    def _bar(self, total: int | None, description: str = "predict", unit: str = "image") -> tqdm:
        return tqdm(
            total=total,
            unit=unit,
            desc=description,
            mininterval=0.5 if sys.stderr.isatty() else 10,
            dynamic_ncols=True,
        )

    def _load(self, picture: Picture) -> Photograph:
        name, image = self._source.read(picture)
        boxes = self._boxes.get(name, ())
        if self._boxes and not boxes:
            with self._lock:
                self._tally.num_without_box += 1
        return Photograph(image, boxes, name)

    def _run_files(self) -> None:
        arguments = self._arguments
        output = outputs_lib.FileOutput(self._out, self._parser.label_set, self._alpha)

        videos = []

        def photographs():
            for picture in self._source:
                if _share(picture, arguments.process_count) != arguments.process_index:
                    continue
                if picture.is_video:
                    videos.append(picture)
                else:
                    yield picture

        def load(picture):
            if output.is_finished(picture, self._source.path(picture)):
                raise _AlreadyLabelled(picture.name)
            return self._load(picture)

        def finish(picture, photograph, label):
            output.write(picture, photograph.image, label)

        with self._bar(self._num_own) as bar:
            for _, result in self._parser.stream(photographs(), load, finish):
                self._tally.add(result)
                bar.update()
            for picture in videos:
                self._tally.add(self._label_video(picture))
                bar.update()

    def _label_video(self, picture: Picture) -> UserError | None:
        path = self._source.path(picture)
        # The whole name: a folder of photographs may be called as the video without its suffix.
        labels = self._out / "labels" / picture.name
        overlay = None
        if self._alpha is not None:
            overlay = self._out / "overlays" / f"{picture.stem}.mp4"
        outputs = [labels] if overlay is None else [labels, overlay]
        if outputs_lib.are_newer(outputs, path):
            return _AlreadyLabelled(picture.name)
        try:
            with self._bar(num_frames(path), picture.name, "frame") as bar:
                parse_video(
                    self._parser,
                    path,
                    labels,
                    overlay,
                    overlay_alpha=self._arguments.overlay_alpha,
                    boxes=self._boxes.get(picture.name, ()),
                    on_frame=bar.update,
                )
        except outputs_lib.OutputError:
            raise
        except UserError as error:
            return error
        return None

    def _run_shards(self) -> None:
        arguments = self._arguments
        output = shards_lib.ShardOutput(self._out, self._num_pictures, arguments.records_per_shard)
        # Of finished shards, the pictures that could not be read then.
        unread: dict[int, set[int]] = {}

        def own():
            for picture in self._source:
                shard = output.shard_of(picture.index)
                if shard % arguments.process_count != arguments.process_index:
                    continue
                path = output.path(shard)
                if picture.index % arguments.records_per_shard == 0 and path.exists():
                    unread[shard] = output.unread(shard)
                if shard not in unread:
                    yield picture
                    continue
                if picture.index in unread[shard]:
                    sentence = f"{picture.name} could not be read when {path} was written; "
                    self._tally.add(UserError(sentence + "remove that shard to try again."))
                else:
                    self._tally.num_skipped += 1
                bar.update()

        def load(picture):
            if picture.is_video:
                raise UserError(f"{picture.name} is a video; shards are of photographs alone.")
            return self._load(picture)

        def finish(picture, photograph, label):
            return outputs_lib.label_png(label, self._parser.label_set, photograph.name)

        shards = range(arguments.process_index, output.num_shards, arguments.process_count)
        records: list[bytes] = []
        with self._bar(sum(map(output.length, shards))) as bar:
            for picture, result in self._parser.stream(own(), load, finish):
                self._tally.add(result)
                records.append(b"" if isinstance(result, UserError) else result)
                shard = output.shard_of(picture.index)
                if len(records) == output.length(shard):
                    output.write(shard, records)
                    records = []
                bar.update()

    def _report(self, seconds: float) -> None:
        arguments, tally = self._arguments, self._tally
        rate = tally.num_labelled / seconds
        share = ""
        if arguments.process_count > 1:
            share = f"process {arguments.process_index} of {arguments.process_count}: "
        print(
            f"{share}{tally.num_labelled} labelled in {seconds:.1f} s ({rate:.1f} images/s), "
            f"{tally.num_skipped} were labelled before, {len(tally.failed)} failed; see {self._out}"
        )
        if tally.num_without_box:
            print(f"{tally.num_without_box} have no box in {arguments.boxes} and were parsed whole")
        if isinstance(self._source, PhotoFiles) and self._source.ignored:
            counts = collections.Counter(self._source.ignored).most_common(5)
            print("left alone: " + ", ".join(f"{count} {suffix}" for suffix, count in counts))
        name = "failed.txt"
        if arguments.process_count > 1:
            name = f"failed-{arguments.process_index:05d}-of-{arguments.process_count:05d}.txt"
        if not tally.failed:
            (self._out / name).unlink(missing_ok=True)
            return
        for sentence in tally.failed[:_MAX_PRINTED]:
            print(f"error: {sentence}", file=sys.stderr)
        if (more := len(tally.failed) - _MAX_PRINTED) > 0:
            print(f"error: {more} more stand in {self._out / name}", file=sys.stderr)
        outputs_lib.write(self._out / name, ("\n".join(tally.failed) + "\n").encode())


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; exit status 1 where a photograph could not be read.

    Args:
      argv: the arguments; None: the process's.
    """
    arguments = _parse_arguments(argv)
    try:
        if arguments.distributed:
            preemption.start_distributed(
                detect_cluster=True, shutdown_timeout_seconds=_SHUTDOWN_SECONDS
            )
            # There is nothing to save that is not saved already: both end the process.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with watchdog.watched():
            is_whole = _Prediction(arguments).run()
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    if not is_whole:
        sys.exit(1)


if __name__ == "__main__":
    main()
