"""One process's share of the pictures, from input to output: what they share."""

import dataclasses
import os
import socket
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import numpy as np
from etils import epath
from tqdm import tqdm

from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.errors import UserError, one_line
from dmlcsr_jax.predict import origin
from dmlcsr_jax.predict.arguments import Options
from dmlcsr_jax.predict.boxes import read_boxes
from dmlcsr_jax.predict.face_parser import FaceParser, Photograph
from dmlcsr_jax.predict.faces import DETECTOR, INSTALL_DETECTOR
from dmlcsr_jax.predict.mask_files import MaskFiles
from dmlcsr_jax.predict.origin import Origin
from dmlcsr_jax.predict.outputs import open_folder, remove_left
from dmlcsr_jax.predict.parquet_rows import ParquetRows
from dmlcsr_jax.predict.photographs import PhotoFiles, Picture
from dmlcsr_jax.predict.reader import Reader
from dmlcsr_jax.predict.report import AlreadyLabelled, Labelled, Report
from dmlcsr_jax.predict.result import Result
from dmlcsr_jax.predict.sources import PreparedSet, RecordFiles, open_source
from dmlcsr_jax.progress import progress_bar


class Run:
    """Labels one process's share of the pictures.

    Attributes:
      options: of the command line, the process's number among them.
      source: the pictures.
      parser: the network.
      reader: reads the pictures.
      report: what has become of them.
      out: folder of the outputs.
      alpha: share of the overlays' tint, 0 to 1; None: no overlays.
      is_sharded: whether label maps go to shards instead of a file each.
      mask_files: the masks and cutouts that are written.
      num_pictures: of all processes.
    """

    def __init__(
        self, options: Options, json_lines: TextIO, source: PhotoFiles | ParquetRows | None = None
    ):
        """Opens the inputs, the network and the folder of the outputs.

        Args:
          options: from `parse_arguments`.
          json_lines: where the lines of --json are written to.
          source: the pictures, where they are open already.

        Raises:
          UserError: where an option does not fit the inputs, the checkpoint or the folder.
        """
        self.options = options = _placed(options)
        self._json_lines = json_lines
        self.source = source or open_source(options.inputs, options.split)
        self._boxes = read_boxes(options.boxes) if options.boxes else {}
        self._open_network()
        self._fingerprint = self.parser.network.fingerprint[:16]
        is_of_records = isinstance(self.source, (RecordFiles, PreparedSet))
        self.is_sharded = options.shards or is_of_records
        has_overlay = not (options.no_overlay or self.is_sharded)
        self.alpha = options.overlay_alpha if has_overlay else None
        self.num_pictures = self._num_own = names_checksum = 0
        for picture in self.source:
            self.num_pictures += 1
            self._num_own += self.is_own(picture)
            names_checksum = zlib.crc32(os.fsencode(picture.name), names_checksum)
        if self.num_pictures == 0:
            raise UserError(f"{self.source.base} holds no photograph.")
        self.mask_files = MaskFiles(options, self.parser.label_set)
        if self.mask_files.settings and self.is_sharded:
            raise UserError("--masks and --cutout write files; leave --shards and records.")
        if (options.format or options.review) and self.is_sharded:
            raise UserError("--format and --review are of files; leave --shards and records.")
        self.out = self._open_out(names_checksum)
        if options.process_index == 0:
            remove_left(self.out)
        self._say_what_is_parsed()
        self.report = Report()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a process on another machine labels by; `open_elsewhere` opens the rest."""
        names = ("options", "out", "alpha", "is_sharded", "mask_files", "_boxes", "_fingerprint")
        return {name: getattr(self, name) for name in names}

    def open_elsewhere(self, num_threads: int) -> None:
        """Loads the network and starts decoder processes in the process that it was sent to.

        Args:
          num_threads: that compute, and that read and write.

        Raises:
          UserError: where the checkpoint cannot be read, or the network is another one here.
        """
        self._open_network(num_threads)
        if self.parser.network.fingerprint[:16] != self._fingerprint:
            raise UserError(
                f"{self.options.checkpoint} is another network on {socket.gethostname()} than "
                "where the command was started: install the same packages and checkpoint on both, "
                "or give --backend."
            )

    def _open_network(self, num_threads: int | None = None) -> None:
        options = self.options
        # Starts while the network is loaded.
        self._pool = DecoderPool(options.limits, num_threads)
        self.parser = FaceParser(
            options.checkpoint,
            # Boxes that are given take the detector's place.
            faces="whole" if self._boxes else options.faces,
            face=options.face,
            batch_size=options.batch_size,
            flip=options.flip,
            scales=options.scales,
            margin=options.margin,
            wide_margin=options.wide_margin,
            dtype=options.dtype,
            backend=options.backend,
            num_threads=num_threads,
        )
        self.reader = Reader(self._pool, options.read_ahead_bytes, self.parser.num_at_a_time)

    def finish(self, label: Callable[["Run"], None]) -> bool:
        """Labels the share and reports what became of it; returns whether all could be read.

        Args:
          label: `folder.label_folder` or `shards.label_shards`.

        Raises:
          OutputError: where an output cannot be written.
        """
        started = time.perf_counter()
        try:
            label(self)
        finally:
            self._pool.close()
        seconds = time.perf_counter() - started
        ignored = self.source.ignored if isinstance(self.source, PhotoFiles) else {}
        self.report.finish(self.out, seconds, ignored, self.options)
        return self.report.all_read

    def is_own(self, picture: Picture) -> bool:
        """Returns whether this process labels a picture, as one of its files or of its shards."""
        # Files go by their names, as other files may come and go meanwhile.
        number = zlib.crc32(os.fsencode(picture.name))
        if self.is_sharded:
            number = picture.index // self.options.records_per_shard
        return number % self.options.process_count == self.options.process_index

    def photograph(self, name: str, image: np.ndarray, is_kept: bool = True) -> Photograph:
        """Returns a photograph with its faces: those that are given for it, or those found."""
        if name in self._boxes:
            return Photograph(image, self._boxes[name], name, is_kept=is_kept)
        return dataclasses.replace(self.parser.found(image, name), is_kept=is_kept)

    def labelled(self, result: Result, record: str, replaces: bool) -> Labelled:
        """Returns what is told of a result.

        Args:
          result: of the photograph.
          record: its line of --json.
          replaces: whether there was a label map of it.
        """
        doubts = tuple(doubt for face in result.faces for doubt in face.doubts)
        is_faceless = result.is_searched and not result.faces
        return Labelled(result.name, is_faceless, doubts, record, replaces)

    def skipped(self, name: str, texts: Mapping[str, str]) -> AlreadyLabelled:
        """Returns what is told of a picture whose label map, with these texts, is there."""
        return AlreadyLabelled(name, origin.record_named(texts, name))

    def count(self, result: Labelled | UserError) -> None:
        """Counts what has become of a picture, and prints its line."""
        self.report.add(result)
        if self.options.json and isinstance(result, (Labelled, AlreadyLabelled)) and result.line:
            print(result.line, file=self._json_lines, flush=True)

    def progress_bar(self) -> tqdm:
        """Returns the bar of this process's pictures."""
        return self.bar_of(self._num_own, "image", "predict")

    def bar_of(self, total: int | None, unit: str, description: str) -> tqdm:
        """Returns a progress bar, shown by one process."""
        is_shown = not self.options.distributed or self.options.process_index == 0
        return progress_bar(total, unit=unit, description=description, is_shown=is_shown)

    def origin(self, picture: Picture, made_of: str) -> Origin:
        """Returns what is kept of a picture beside its labels.

        Args:
          picture: a photograph or video.
          made_of: the fingerprint of its content.
        """
        # Of what goes to a file of its own; a record's place is its shard's.
        is_bytes = isinstance(picture.source, bytes)
        place = picture.title if is_bytes else os.fspath(picture.source)
        return Origin(
            made_of,
            origin.digest(self._settings(picture)),
            "" if is_bytes and picture.stem is None else origin.digest(place),
            "" if self.alpha is None else f"{self.alpha:g}",
        )

    def _settings(self, picture: Picture | None = None) -> dict[str, Any]:
        """Returns what decides a picture's labels; of none: what is the same for all."""
        options, parser = self.options, self.parser
        boxes = self._boxes.get(picture.name) if picture else None
        has_faces = bool(boxes) or parser.finds_faces
        return {
            "network": self._fingerprint,
            "flip": options.flip,
            "scales": options.scales,
            "dtype": options.dtype,
            "boxes": boxes,
            "faces": DETECTOR if parser.finds_faces else None,
            "face": options.face if has_faces else None,
            "margin": parser.margin if has_faces else None,
            "wide_margin": parser.wide_margin if parser.finds_faces else None,
            "steady": not options.no_steady if picture and picture.is_video else None,
            **self.mask_files.settings,
        }

    def _open_out(self, names_checksum: int) -> epath.Path:
        """Opens the folder of the outputs."""
        layout = {"shards_of": None}
        if self.is_sharded:
            # Which record is which picture's depends on all of them.
            layout = {
                "shards_of": self.options.records_per_shard,
                "inputs_below": str(self.source.base),
                "split": self.options.split,
                "pictures": [self.num_pictures, names_checksum],
            }
        settings = {"checkpoint": str(self.options.checkpoint), **self._settings()}
        return open_folder(self.options.out, self.parser.label_set, layout, settings)

    def _say_what_is_parsed(self) -> None:
        metadata = self.parser.metadata
        print(
            f"labels: {metadata.label_set.convention}; network input {metadata.image_size} pixels "
            f"square, {metadata.channel_order}; run by {self.parser.network.runtime}",
            flush=True,
        )
        if metadata.license:
            print(f"weights: {one_line(metadata.license)}", flush=True)
        finds_faces = self.parser.finds_faces
        if not self._boxes and not finds_faces and self.options.faces == "auto":
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
        if self._boxes and self.options.process_index == 0:
            self._say_what_has_no_box()

    def _say_what_has_no_box(self) -> None:
        path, names = self.options.boxes, list(self.source.names())
        if unknown := self._boxes.keys() - set(names):
            first = next(name for name in self._boxes if name in unknown)
            _warn(
                f"{len(unknown)} of {len(self._boxes)} names in {path} match no photograph, first "
                f"{first!r}; the names are those below {self.source.base}."
            )
        if num_without := sum(name not in self._boxes for name in names):
            print(f"{num_without} have no box in {path} and are parsed uncropped", flush=True)


def _placed(options: Options) -> Options:
    """Returns the options with which process this is of how many, where they do not say so."""
    if options.process_index is not None:
        return options
    index, count = 0, 1
    if options.distributed:
        import jax  # Here: an exported network is run without it.

        # The first look at the devices, at which processes wait for each other.
        index, count = jax.process_index(), jax.process_count()
    return dataclasses.replace(options, process_index=index, process_count=count)


def _warn(sentence: str) -> None:
    print(f"warning: {one_line(sentence)}", file=sys.stderr)
