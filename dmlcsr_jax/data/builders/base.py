"""What the builders share: finding a set's parts, its shards, its description."""

import abc
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from dmlcsr_jax.data import limits as limits_lib
from dmlcsr_jax.data.builders.options import Options
from dmlcsr_jax.data.builders.records import Record
from dmlcsr_jax.data.builders.shards import EXAMPLES_PER_SHARD, Shard, write_shards
from dmlcsr_jax.data.builders.tfds_private import FinishedShardsBuilder
from dmlcsr_jax.data.features import features
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.data.prepared_description import read_splits, read_summary
from dmlcsr_jax.data.prepared_sets import is_prepared_set
from dmlcsr_jax.data.workers import num_cores
from dmlcsr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Findings:
    """What there is in the authors' folder.

    Attributes:
      records: the examples of each split, in order; splits without examples are left out.
      incomplete: one phrase for each image that cannot be used, naming what it lacks.
    """

    records: Mapping[str, Sequence[Record]]
    incomplete: Sequence[str] = ()


class FaceParsingBuilder(FinishedShardsBuilder, skip_registration=True):
    """Builds a set of photographs with label maps, as ArrayRecord, from the authors' folder.

    A subclass says where the parts are. `prepare` writes the shards with all cores
    into `{version}.partial` beside the set's own folder, where an interrupted run finds them again;
    then tensorflow-datasets describes them and puts everything into its place by one renaming.

    Attributes:
      archive: the authors' name of the set, for messages.
      parts: the files and folders by which the authors' folder is recognised, as patterns.
      official_counts: number of images of each split, or None where there is no official number.
    """

    VERSION = tfds.core.Version("1.0.0")
    archive: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    official_counts: ClassVar[Mapping[str, int] | None] = None

    def __init__(
        self,
        *,
        source: str | os.PathLike,
        data_dir: str | os.PathLike,
        options: Options | None = None,
        num_workers: int | None = None,
        limits: Limits = limits_lib.DEFAULT,
    ):
        """Finds the parts of the set; reads no image yet.

        Args:
          source: the authors' folder, or the one that it was unpacked in.
          data_dir: where to build `{name}/{version}`.
          options: the user's choices.
          num_workers: number of processes that write; None for one a core.
          limits: what a file of the set may cost.

        Raises:
          UserError: where a piece is missing or the counts are not the official ones.
        """
        self.options = options or Options()
        self._num_workers = num_workers or num_cores()
        self._limits = limits
        self.source = self._locate(pathlib.Path(source))
        self.labels = self.label_set()
        self._findings = self.find()
        self._check_findings()
        self._shards: dict[str, list[Shard]] = {}
        place = epath.Path(data_dir) / self.name / str(self.VERSION)
        if is_prepared_set(place):
            # tensorflow-datasets reads them too, and has no sentence where they are damaged.
            read_splits(place)
            read_summary(place)
        super().__init__(data_dir=data_dir)

    @abc.abstractmethod
    def label_set(self) -> LabelSet:
        """Returns the meaning of the labels."""

    @abc.abstractmethod
    def find(self) -> Findings:
        """Returns where the examples are in `self.source`."""

    def count_problem(self) -> str | None:
        """Returns how the numbers of images differ from the official ones, or None."""
        wrong = [
            f"{self.counts.get(split, 0):,} {split} images instead of the official {official:,}"
            for split, official in (self.official_counts or {}).items()
            if self.counts.get(split, 0) != official
        ]
        return " and ".join(wrong) or None

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples of each split."""
        return {split: len(records) for split, records in self._findings.records.items()}

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """What is kept beside the set: its labels, the choices, a hash of what went into it."""
        digest = hashlib.sha256()
        for split, records in self._findings.records.items():
            for record in records:
                image = record.image.relative_to(self.source).as_posix()
                line = (split, record.name, image, record.image.stat().st_size)
                digest.update(repr(line).encode())
        return {
            "dataset": self.name,
            "label_set": self.labels.to_json(),
            "options": self.options.to_json(),
            "left_out": len(self._findings.incomplete),
            "sources": digest.hexdigest(),
        }

    def prepare(self) -> None:
        """Builds the set, or goes on building it where an earlier run was interrupted.

        Raises:
          UserError: where an example is damaged or a file cannot be written, and where something
            else is already in the set's place.
        """
        place = pathlib.Path(self.data_dir)
        if place.exists():
            self._check_same(place)
            return
        with _naming(place), self._partial_folder(place) as partial:
            self._shards = self._plan(partial)
            self._check_room(place)
            every = [shard for split in self._shards.values() for shard in split]
            write_shards(every, self.labels, self._num_workers, self._limits)
            self.describe(partial / "downloads")
            shutil.rmtree(partial)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.archive}, prepared for face parsing.",
            features=features(),
            metadata=tfds.core.MetadataDict(self.summary),
        )

    def finished_shards(self) -> dict[str, list[tuple[pathlib.Path, int]]]:
        """Returns the written shards of each split with their numbers of examples."""
        return {
            split: [(shard.path, len(shard.records)) for shard in shards]
            for split, shards in self._shards.items()
        }

    def _locate(self, source: pathlib.Path) -> pathlib.Path:
        """Returns the folder that has the set's parts: the one given, or a folder in it."""
        if not source.is_dir():
            raise UserError(
                f"the folder {source} does not exist; unpack {self.archive} and name its folder "
                "by --root."
            )
        candidates = [source, *sorted(path for path in source.iterdir() if path.is_dir())]
        best = max(candidates, key=lambda path: len(self.parts) - len(self._missing(path)))
        missing = self._missing(best)
        if missing and not (self.options.allow_partial and len(missing) < len(self.parts)):
            raise UserError(
                f"{best} has no {' and no '.join(missing)}, as {self.archive} does; unpack the "
                "complete archive and name its folder by --root."
            )
        return best

    def _missing(self, folder: pathlib.Path) -> list[str]:
        return [part for part in self.parts if next(folder.glob(part), None) is None]

    def _check_findings(self):
        """Checks that the set is complete, or that taking a part of it is allowed."""
        incomplete, problem = self._findings.incomplete, self.count_problem()
        if incomplete and not self.options.allow_partial:
            others = f" (nor do {len(incomplete) - 1} others)" if len(incomplete) > 1 else ""
            raise UserError(
                f"{incomplete[0]}{others}; unpack the archive again, or leave such images out by "
                "--allow_partial."
            )
        if not self._findings.records:
            raise UserError(
                f"{self.source} holds no image with a label of {self.archive}; name the folder "
                "that the archive was unpacked in by --root."
            )
        if problem and not self.options.allow_partial:
            raise UserError(
                f"{self.source} has {problem}; unpack the complete archive, or take what is there "
                "by --allow_partial."
            )
        if incomplete:
            logging.warning("%s; %d images are left out.", incomplete[0], len(incomplete))
        if problem:
            logging.warning("%s has %s.", self.source, problem)

    def _check_same(self, place: pathlib.Path):
        """Checks that what is already prepared is what would be."""
        if self.info.metadata != self.summary:
            raise UserError(
                f"{place} was prepared from other images or with other options; delete it, or "
                "choose another --out."
            )

    def _check_room(self, place: pathlib.Path):
        """Checks that there is room on the disk, where that can be known."""
        missing = [s for split in self._shards.values() for s in split if not s.path.exists()]
        # Photographs that are encoded anew only become smaller; by how much is not known.
        needed = sum(
            record.image.stat().st_size
            for shard in missing
            if shard.encoding.max_side is None and shard.encoding.jpeg_quality is None
            for record in shard.records
        )
        free = shutil.disk_usage(place.parent).free
        if needed > free:
            raise UserError(
                f"{place} needs {needed / 1e6:,.0f} MB and its disk has {free / 1e6:,.0f} MB free; "
                "make room or choose another --out."
            )

    def _plan(self, folder: pathlib.Path) -> dict[str, list[Shard]]:
        """Returns the shards of each split, as files in a folder."""
        plan = {}
        for split, records in self._findings.records.items():
            starts = range(0, len(records), EXAMPLES_PER_SHARD)
            plan[split] = [
                Shard(
                    folder / self.shard_name(split, i, len(starts)),
                    tuple(records[start : start + EXAMPLES_PER_SHARD]),
                    self.options.encoding(split),
                )
                for i, start in enumerate(starts)
            ]
        return plan

    @contextlib.contextmanager
    def _partial_folder(self, place: pathlib.Path) -> Iterator[pathlib.Path]:
        """Gives the folder of finished shards to one process at a time, without outdated ones."""
        folder = place.with_name(f"{place.name}.partial")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{place} is being prepared by another process; wait for it or end it."
                ) from error
            for leftover in place.parent.glob(f"{place.name}.incomplete*"):
                shutil.rmtree(leftover)
            summary, text = folder / "summary.json", json.dumps(self.summary)
            if not summary.exists() or summary.read_text() != text:
                for shard in folder.glob("*.array_record*"):
                    shard.unlink()
                summary.write_text(text)
            yield folder


@contextlib.contextmanager
def _naming(place: pathlib.Path):
    """Turns a failure to write into a sentence that names the set's folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{place} cannot be written ({error.strerror or error}); make room on that disk or "
            "choose another --out, then start again."
        ) from error
