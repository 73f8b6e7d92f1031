"""One process's share of the pictures, from input to output."""

import argparse
import dataclasses
import functools
import itertools
import json
import sys
import time
import zlib
from collections.abc import Iterator
from typing import TextIO

import numpy as np
from tqdm import tqdm

from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.distributed.progress import progress_bar
from dmlcsr_jax.errors import UserError, one_line
from dmlcsr_jax.predict import camera
from dmlcsr_jax.predict.boxes import read_boxes
from dmlcsr_jax.predict.face_parser import FaceParser, Photograph
from dmlcsr_jax.predict.faces import DETECTOR, INSTALL_DETECTOR
from dmlcsr_jax.predict.outputs import FileOutput, ends_the_run, label_png, open_folder
from dmlcsr_jax.predict.photographs import PhotoFiles, Picture
from dmlcsr_jax.predict.reader import Reader
from dmlcsr_jax.predict.report import AlreadyLabelled, Report
from dmlcsr_jax.predict.result import Result
from dmlcsr_jax.predict.shards import ShardOutput
from dmlcsr_jax.predict.sources import open_source
from dmlcsr_jax.predict.video import fingerprint_of, parse_video


def _warn(sentence: str) -> None:
    print(f"warning: {one_line(sentence)}", file=sys.stderr)


class Run:
    """Labels one process's share of the pictures."""

    def __init__(self, arguments: argparse.Namespace, json_lines: TextIO):
        """Opens the inputs, the network and the folder of the outputs.

        Args:
          arguments: from `parse_arguments`.
          json_lines: where the lines of --json are written to.

        Raises:
          UserError: where an argument does not fit the inputs, the checkpoint or the folder.
        """
        self._arguments = arguments
        self._json_lines = json_lines
        if arguments.process_index is None:
            arguments.process_index, arguments.process_count = _place(arguments)
        self._source = open_source(arguments.inputs, arguments.split)
        # Starts while the network is loaded.
        self._pool = DecoderPool(arguments.limits)
        self._boxes = read_boxes(arguments.boxes) if arguments.boxes else {}
        self._parser = FaceParser(
            arguments.checkpoint,
            # Boxes that are given take the detector's place.
            faces="whole" if self._boxes else arguments.faces,
            batch_size=arguments.batch_size,
            flip=arguments.flip,
            scales=arguments.scales,
            margin=arguments.margin,
            wide_margin=arguments.wide_margin,
            dtype=arguments.dtype,
            backend=arguments.backend,
        )
        self._is_sharded = arguments.shards or not isinstance(self._source, PhotoFiles)
        has_overlay = not (arguments.no_overlay or self._is_sharded)
        self._alpha = arguments.overlay_alpha if has_overlay else None
        self._num_pictures = self._num_own = names_checksum = 0
        for picture in self._source:
            self._num_pictures += 1
            self._num_own += self._is_own(picture)
            names_checksum = zlib.crc32(_bytes(picture.name), names_checksum)
        if self._num_pictures == 0:
            raise UserError(f"{self._source.base} holds no photograph.")
        self._out = self._open_out(names_checksum)
        self._say_what_is_parsed()
        self._report = Report()
        self._reader = Reader(self._pool, arguments.read_ahead_bytes, self._parser.num_at_a_time)

    def label(self) -> bool:
        """Labels the share and reports what became of it; returns whether all could be read.

        Raises:
          OutputError: where an output cannot be written.
        """
        started = time.perf_counter()
        try:
            if self._is_sharded:
                self._label_to_shards()
            else:
                self._label_to_files()
        finally:
            self._pool.close()
        seconds = time.perf_counter() - started
        ignored = self._source.ignored if isinstance(self._source, PhotoFiles) else {}
        self._report.finish(self._out, seconds, ignored, self._arguments)
        return self._report.all_read

    def _is_own(self, picture: Picture) -> bool:
        """Returns whether this process labels a picture, as one of its files or of its shards."""
        arguments = self._arguments
        # Files go by their names, as other files may come and go meanwhile.
        number = zlib.crc32(_bytes(picture.name))
        if self._is_sharded:
            number = picture.index // arguments.records_per_shard
        return number % arguments.process_count == arguments.process_index

    def _progress_bar(self, total: int | None, unit: str, description: str) -> tqdm:
        is_shown = not self._arguments.distributed or self._arguments.process_index == 0
        return progress_bar(total, unit=unit, description=description, is_shown=is_shown)

    def _open_out(self, names_checksum: int):
        """Opens the folder of the outputs, for all that decides what is written to it."""
        arguments, metadata = self._arguments, self._parser.metadata
        boxes_checksum = zlib.crc32(repr(sorted(self._boxes.items())).encode())
        settings = {
            "inputs_below": str(self._source.base),
            "split": None if arguments.split == "all" else arguments.split,
            "network": self._parser.network.fingerprint[:16],
            "label_set": metadata.label_set.name,
            "flip": arguments.flip,
            "scales": arguments.scales,
            "dtype": arguments.dtype,
            "overlay_alpha": self._alpha,
            "boxes": boxes_checksum if self._boxes else None,
            "faces": DETECTOR if self._parser.finds_faces else None,
            "margin": self._parser.margin if self._boxes or self._parser.finds_faces else None,
            "wide_margin": self._parser.wide_margin if self._parser.finds_faces else None,
            "shards_of": arguments.records_per_shard if self._is_sharded else None,
            # Which record is which picture's depends on all names.
            "pictures": [self._num_pictures, names_checksum] if self._is_sharded else None,
        }
        return open_folder(arguments.out, metadata.label_set, settings, str(arguments.checkpoint))

    def _say_what_is_parsed(self) -> None:
        metadata = self._parser.metadata
        print(
            f"labels: {metadata.label_set.convention}; network input {metadata.image_size} pixels "
            f"square, {metadata.channel_order}; run by {self._parser.network.runtime}",
            flush=True,
        )
        if metadata.license:
            print(f"weights: {metadata.license}", flush=True)
        finds_faces = self._parser.finds_faces
        if not self._boxes and not finds_faces and self._arguments.faces == "auto":
            print(
                "no face detector is installed, so that photographs are parsed complete; "
                f"{INSTALL_DETECTOR} installs one",
                flush=True,
            )
        if metadata.crop_margin is not None and not self._boxes and not finds_faces:
            _warn(
                "the network was trained on crops of faces but is shown photographs uncropped; "
                f"give the faces by --boxes, or have them found: {INSTALL_DETECTOR}."
            )
        if self._boxes and self._arguments.process_index == 0:
            self._say_what_has_no_box()

    def _say_what_has_no_box(self) -> None:
        path, names = self._arguments.boxes, list(self._source.names())
        if unknown := self._boxes.keys() - set(names):
            first = next(name for name in self._boxes if name in unknown)
            _warn(
                f"{len(unknown)} of {len(self._boxes)} names in {path} match no photograph, first "
                f"{first!r}; the names are those below {self._source.base}."
            )
        if num_without := sum(name not in self._boxes for name in names):
            print(f"{num_without} have no box in {path} and are parsed uncropped", flush=True)

    def _photograph(self, name: str, image: np.ndarray, is_kept: bool = True) -> Photograph:
        photograph = self._parser.found(image, name)
        boxes = self._boxes.get(name, photograph.boxes)
        return dataclasses.replace(photograph, boxes=boxes, is_kept=is_kept)

    def _line(self, result: Result) -> str | None:
        return json.dumps(result.to_json()) if self._arguments.json else None

    def _print(self, line: str | UserError | None) -> None:
        if isinstance(line, str):
            print(line, file=self._json_lines, flush=True)

    def _label_to_files(self) -> None:
        output = FileOutput(self._out, self._parser.label_set, self._alpha)
        videos = []
        # Of the pictures on their way, by their index.
        made_of: dict[int, str] = {}

        def photographs() -> Iterator[Picture]:
            for picture in filter(self._is_own, self._source):
                if picture.is_video:
                    videos.append(picture)
                else:
                    yield picture

        def load(picture):
            def check(found: str) -> None:
                if output.is_finished(picture, self._source.path(picture), found):
                    raise AlreadyLabelled(picture.name)

            encoded = self._source.encoded(picture)
            image, made_of[picture.index] = self._reader.photograph(encoded, check)
            is_kept = self._alpha is not None and self._reader.may_wait(image)
            return self._photograph(encoded.name, image, is_kept)

        def finish(picture, result):
            found, image, label = made_of.pop(picture.index), result.image, result.label
            try:
                if self._alpha is None:
                    output.write(picture, image, label, found)
                else:
                    encoded = self._source.encoded(picture)
                    with self._reader.kept_or_read_again(encoded, image, found) as image:
                        output.write(picture, image, label, found)
            except UserError as error:
                if ends_the_run(error):
                    raise
                return error
            return self._line(result)

        with self._progress_bar(self._num_own, "image", "predict") as bar:
            for _, line in self._parser.results(photographs(), load, finish):
                self._report.add(line)
                self._print(line)
                bar.update()
            for video in videos:
                self._report.add(self._label_video(video, output))
                bar.update()

    def _label_video(self, video: Picture, output: FileOutput) -> UserError | None:
        path = self._source.path(video)
        try:
            reader, made_of = self._reader, None
            if camera.is_camera(path):
                reader = camera.Camera(self._arguments.limits.frames)
                camera.require_new(output.paths(video)[0])
            else:
                made_of = fingerprint_of(path)
                if output.is_finished(video, path, made_of):
                    return AlreadyLabelled(video.name)
            with self._progress_bar(None, "frame", one_line(video.name)) as bar:

                def start(num_frames: int | None) -> None:
                    bar.total = num_frames
                    bar.refresh()

                parse_video(
                    self._parser,
                    reader,
                    path,
                    *output.paths(video),
                    overlay_alpha=self._arguments.overlay_alpha,
                    photograph_of=functools.partial(self._photograph, video.name),
                    made_of=made_of,
                    on_start=start,
                    on_frame=bar.update,
                )
        except UserError as error:
            if ends_the_run(error):
                raise
            return error
        return None

    def _are_as_before(self, pictures: list[Picture], made_of: list[str | None]) -> bool:
        """Returns whether what a shard was made of is unchanged."""
        limits = self._arguments.limits
        try:
            return all(
                made is None or made == self._source.encoded(picture).fingerprint(limits)
                for picture, made in zip(pictures, made_of, strict=True)
            )
        except UserError:
            return False

    def _label_to_shards(self) -> None:
        output = ShardOutput(self._out, self._num_pictures, self._arguments.records_per_shard)
        made_of: dict[int, str] = {}

        def pictures() -> Iterator[Picture]:
            own = filter(self._is_own, self._source)
            for shard, group in itertools.groupby(own, lambda p: output.shard_of(p.index)):
                group = list(group)
                before = output.made_of(shard)
                if before is None or not self._are_as_before(group, before):
                    yield from group
                    continue
                for picture, made in zip(group, before, strict=True):
                    result = AlreadyLabelled(picture.name)
                    if made is None:
                        result = UserError(
                            f"{picture.name} could not be read when {output.path(shard)} was "
                            "written; remove that shard to try again."
                        )
                    self._report.add(result)
                    bar.update()

        def load(picture):
            if picture.is_video:
                raise UserError(f"{picture.name} is a video; shards are of photographs alone.")
            encoded = self._source.encoded(picture)
            # There are no overlays.
            image, made_of[picture.index] = self._reader.photograph(encoded)
            return self._photograph(encoded.name, image, is_kept=False)

        def finish(picture, result):
            found = made_of.pop(picture.index)
            png = label_png(result.label, self._parser.label_set, result.name, found)
            return png, self._line(result)

        records: list[bytes] = []
        with self._progress_bar(self._num_own, "image", "predict") as bar:
            for picture, result in self._parser.results(pictures(), load, finish):
                self._report.add(result)
                png, line = (b"", None) if isinstance(result, UserError) else result
                self._print(line)
                records.append(png)
                shard = output.shard_of(picture.index)
                if len(records) == output.length(shard):
                    output.write(shard, records)
                    records = []
                bar.update()


def _place(arguments: argparse.Namespace) -> tuple[int, int]:
    """Returns which process this is of how many, where the command line does not say so."""
    if not arguments.distributed:
        return 0, 1
    import jax  # Here: an exported network is run without it.

    # The first look at the devices, at which processes wait for each other.
    return jax.process_index(), jax.process_count()


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogateescape")
