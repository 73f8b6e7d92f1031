"""Photographs labelled by a pool of actors of Ray Data, with the files of the plain command."""

import csv
import io
import itertools
import json
import math
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

import cv2

from dmlcsr_jax.errors import UserError, one_line, sentence_of
from dmlcsr_jax.predict import ray_cluster
from dmlcsr_jax.predict.arguments import Options
from dmlcsr_jax.predict.camera import is_camera
from dmlcsr_jax.predict.folder import label_pictures
from dmlcsr_jax.predict.outputs import write, write_legend
from dmlcsr_jax.predict.parquet_rows import ParquetRows, parquet_files
from dmlcsr_jax.predict.photographs import PhotoFiles, Picture
from dmlcsr_jax.predict.report import AlreadyLabelled, Labelled
from dmlcsr_jax.predict.run import Run
from dmlcsr_jax.predict.sources import open_source

if TYPE_CHECKING:
    import pyarrow
    import ray

TABLE = "photographs.csv"
# An actor gets so many photographs at a time, and rests for a moment between two such parts.
_MOST_IN_A_PART = 256
# So many parts are there for each actor, where photographs are few: no actor is to wait for long
# for the last of another.
_PARTS_AN_ACTOR = 8
# Parts that wait at an actor; they wait for it where it is started again.
_WAITING_PARTS = 2
# What actors are given and give back is pickled: file names may be bytes that no text has.
_PICKLED = "pickled"


def label_on_ray(options: Options, json_lines: TextIO) -> bool:
    """Labels photographs on a Ray cluster and reports; returns whether all could be read.

    Args:
      options: of the command line.
      json_lines: where the lines of --json are written to.

    Raises:
      UserError: where an option does not fit the inputs, the checkpoint, the folder of the outputs
        or the cluster, or an output cannot be written.
    """
    ray_cluster.require_ray()
    source = _open_source(options)
    with ray_cluster.connected(options.ray) as nodes:
        actor = ray_cluster.actor_resources(options.ray_actor, nodes)
        number = ray_cluster.num_actors(options.ray_actors, actor, nodes)
        environment = ray_cluster.keep_off_accelerators(actor)
        run = Run(options, json_lines, source)
        takes = ", ".join(f"{name}={count:g}" for name, count in actor.items())
        print(f"actors of Ray: {number}, each with {takes}", flush=True)
        return run.finish(lambda run: _label(run, actor, number, environment))


def _open_source(options: Options) -> PhotoFiles | ParquetRows:
    files = [file for name in options.inputs for file in parquet_files(name)]
    if files and len(options.inputs) > 1:
        raise UserError("Parquet files must be the only input; give their folder.")
    if files and options.split != "all":
        raise UserError(f"--split is for prepared sets, and {files[0]} is none; leave it.")
    source = ParquetRows(files) if files else open_source(options.inputs, options.split)
    if not isinstance(source, (PhotoFiles, ParquetRows)):
        raise UserError(
            f"--ray labels photographs in files and in Parquet, and {source.base} is ArrayRecord; "
            "leave --ray, or split it by --process_index."
        )
    return source


def _label(run: Run, actor: Mapping[str, float], number: int, environment: Mapping) -> None:
    """Labels all pictures and counts each, once.

    Args:
      run: of this process.
      actor: what an actor takes, by Ray's names.
      number: of actors.
      environment: variables that they need.

    Raises:
      OutputError: where an output cannot be written.
      UserError: where an actor cannot load the network, or cannot be started.
    """
    if run.alpha is not None:
        write_legend(run.out, run.parser.label_set)
    table = Table()
    size = math.ceil(run.num_pictures / (_PARTS_AN_ACTOR * number))
    size = min(max(size, run.options.batch_size), _MOST_IN_A_PART)
    rows = run.source if isinstance(run.source, ParquetRows) else None
    results = ray_cluster.map_in_actors(
        _dataset(run.source, size, table),
        Labeller,
        (run, max(1, math.floor(actor["CPU"])), environment, rows),
        size=1 if rows is not None else size,
        actor=actor,
        number=number,
        waiting=_WAITING_PARTS,
    )
    with run.progress_bar() as bar:
        for batch in results:
            for name, result in map(pickle.loads, batch[_PICKLED].to_pylist()):
                if name is None:
                    raise result
                if table.add(name, result):
                    run.count(result)
                    bar.update()
    for name in table.missing():
        lost = UserError(f"{name} came back from no actor; start again.")
        table.add(name, lost)
        run.count(lost)
    table.write(run.out)


def _dataset(source: PhotoFiles | ParquetRows, size: int, table: "Table") -> "ray.data.Dataset":
    """Returns what actors are given, and names all pictures to the table.

    Args:
      source: the pictures.
      size: of them that are a part; of Parquet a part is a row group.
      table: of this run.

    Returns:
      A row a picture, or a row group.

    Raises:
      UserError: where a picture is a webcam.
    """
    import ray.data

    if isinstance(source, ParquetRows):
        table.expect(source.names())
        # The actors read them: of Ray's own readers none would have a core that no actor has.
        return ray.data.from_arrow([_pickled([group]) for group in source.groups])
    parts = []
    pictures = iter(source)
    while part := list(itertools.islice(pictures, size)):
        table.expect(picture.name for picture in part)
        for picture in part:
            if is_camera(picture.source):
                raise UserError(f"{picture.name} is a webcam, which no cluster sees; leave --ray.")
        parts.append(_pickled(part))
    return ray.data.from_arrow(parts)


def _pickled(items: Sequence) -> "pyarrow.Table":
    import pyarrow as pa

    return pa.table({_PICKLED: pa.array([pickle.dumps(item) for item in items], pa.binary())})


class Labeller:
    """What an actor does: it labels parts of the pictures, and writes their files."""

    def __init__(
        self,
        run: Run,
        num_threads: int,
        environment: Mapping[str, str],
        rows: ParquetRows | None,
    ):
        """Loads the network.

        Args:
          run: of the process that the command was started in.
          num_threads: that compute, and that read and write; other actors have the other cores.
          environment: variables that JAX reads.
          rows: what the pictures are rows of; None: of nothing, they are files.
        """
        # XLA takes so many threads on CPUs.
        os.environ.update(environment, NPROC=str(num_threads))
        cv2.setNumThreads(num_threads)
        self._run, self._rows = run, rows
        self._error: UserError | None = None
        try:
            run.open_elsewhere(num_threads)
        # Ray would start the actor again and again.
        except UserError as error:
            self._error = error

    def __call__(self, batch: "pyarrow.Table") -> dict[str, list[bytes]]:
        """Labels a part.

        Args:
          batch: of the dataset.

        Returns:
          Of each picture its name and a `Labelled` or `UserError`, pickled. Where the name is None
          the error ends the run, and the others are not labelled.
        """
        found = []
        try:
            if self._error is not None:
                raise self._error
            for picture, result in label_pictures(self._run, self._pictures(batch)):
                found.append((picture.name, result))
        except (UserError, OSError) as error:
            sentence = sentence_of(error)
            if sentence is None:
                raise
            found = [(None, UserError(sentence))]
        return {_PICKLED: [pickle.dumps(pair) for pair in found]}

    def _pictures(self, batch: "pyarrow.Table") -> Iterator[Picture]:
        items = map(pickle.loads, batch[_PICKLED].to_pylist())
        if self._rows is None:
            return items
        return itertools.chain.from_iterable(self._rows.read(*group) for group in items)


class Table:
    """What has become of each picture: a row of `photographs.csv`."""

    def __init__(self):
        self._rows: dict[str, tuple | None] = {}

    def expect(self, names: Iterator[str]) -> None:
        """Adds the names of pictures of which nothing is known yet."""
        self._rows.update(dict.fromkeys(names))

    def missing(self) -> Sequence[str]:
        """Returns the names of pictures of which nothing is known."""
        return [name for name, row in self._rows.items() if row is None]

    def add(self, name: str, result: Labelled | UserError) -> bool:
        """Adds a picture's result; returns whether it is the first of that picture."""
        if self._rows.get(name) is not None:
            return False
        is_failed = isinstance(result, UserError) and not isinstance(result, AlreadyLabelled)
        if is_failed:
            self._rows[name] = ("failed", "", "", one_line(str(result)))
            return True
        state = "labelled before" if isinstance(result, AlreadyLabelled) else "labelled"
        faces = json.loads(result.line)["faces"] if result.line else None
        quality = max((face["quality"] for face in faces), default="") if faces else ""
        self._rows[name] = (state, "" if faces is None else len(faces), quality, "")
        return True

    def write(self, out) -> None:
        """Writes the table, those that failed first.

        Raises:
          OutputError: where it cannot be written.
        """
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(("name", "result", "faces", "quality", "what is wrong"))
        for name, row in sorted(self._rows.items(), key=lambda item: (item[1][0], item[0])):
            lines.writerow((one_line(name), *row))
        write(out / TABLE, text.getvalue().encode())
