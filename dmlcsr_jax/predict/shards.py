"""Label maps as ArrayRecord shards."""

import itertools
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.face_parser import Photograph
from dmlcsr_jax.predict.origin import Origin, texts_in
from dmlcsr_jax.predict.outputs import label_png, write
from dmlcsr_jax.predict.photographs import Picture
from dmlcsr_jax.predict.report import Labelled
from dmlcsr_jax.predict.result import Result
from dmlcsr_jax.predict.run import Run
from dmlcsr_jax.predict.sources import named_if_damaged


def label_shards(run: Run) -> None:
    """Labels the photographs of a run's own shards.

    Raises:
      OutputError: where a shard cannot be written.
    """
    output = ShardOutput(run.out, run.num_pictures, run.options.records_per_shard)
    origins: dict[int, Origin] = {}
    replaced: set[int] = set()

    def pictures() -> Iterator[Picture]:
        own = filter(run.is_own, run.source)
        for shard, group in itertools.groupby(own, lambda picture: output.shard_of(picture.index)):
            group = list(group)
            before = output.texts(shard)
            if before is None or not _are_as_before(run, group, before):
                if before is not None:
                    replaced.update(picture.index for picture in group)
                yield from group
                continue
            for picture, texts in zip(group, before, strict=True):
                result = run.skipped((texts or {}).get("name", picture.name), texts or {})
                if texts is None:
                    result = UserError(
                        f"{picture.name} could not be read when {output.path(shard)} was "
                        "written; remove that shard to try again."
                    )
                run.count(result)
                bar.update()

    def load(picture: Picture) -> Photograph:
        if picture.is_video:
            raise UserError(f"{picture.name} is a video; shards are of photographs alone.")
        read = run.source.read(picture)
        # There are no overlays.
        image, made_of = run.reader.photograph(read)
        origins[picture.index] = run.origin(read, made_of)
        return run.photograph(read.name, image, is_kept=False)

    def finish(picture: Picture, result: Result) -> tuple[bytes, Labelled]:
        record = json.dumps(result.to_json())
        texts = origins.pop(picture.index).texts(record)
        png = label_png(result.label, run.parser.label_set, result.name, texts)
        return png, run.labelled(result, record, picture.index in replaced)

    records: list[bytes] = []
    with run.progress_bar() as bar:
        for picture, result in run.parser.results(pictures(), load, finish):
            png, labelled = (b"", result) if isinstance(result, UserError) else result
            run.count(labelled)
            records.append(png)
            shard = output.shard_of(picture.index)
            if len(records) == output.length(shard):
                output.write(shard, records)
                records = []
            bar.update()


def _are_as_before(
    run: Run, pictures: Sequence[Picture], before: Sequence[Mapping[str, str] | None]
) -> bool:
    """Returns whether a shard would be the same again."""

    def would_be_same(picture: Picture, texts: Mapping[str, str]) -> bool:
        read = run.source.read(picture)
        return run.origin(read, read.fingerprint(run.options.limits)).made(texts)

    try:
        return all(
            texts is None or would_be_same(picture, texts)
            for picture, texts in zip(pictures, before, strict=True)
        )
    except UserError:
        return False


class ShardOutput:
    """ArrayRecord shards in `labels/`: record i of all is the label map of picture i, a PNG.

    A picture that could not be read has an empty record.
    """

    def __init__(self, out: epath.Path, num_pictures: int, records_per_shard: int):
        """Writes nothing yet.

        Args:
          out: from `open_folder`.
          num_pictures: over all shards.
          records_per_shard: in each but the last.
        """
        self._out = epath.Path(out)
        self._num_pictures = num_pictures
        self._records_per_shard = records_per_shard

    @property
    def num_shards(self) -> int:
        """Number of shards that the pictures make."""
        return -(-self._num_pictures // self._records_per_shard)

    def shard_of(self, index: int) -> int:
        """Returns the shard that picture `index` belongs to."""
        return index // self._records_per_shard

    def length(self, shard: int) -> int:
        """Returns the number of records of a shard."""
        start = shard * self._records_per_shard
        return min(self._records_per_shard, self._num_pictures - start)

    def path(self, shard: int) -> epath.Path:
        """Returns a shard's file."""
        name = f"labels.array_record-{shard:05d}-of-{self.num_shards:05d}"
        return self._out / "labels" / name

    def texts(self, shard: int) -> list[dict[str, str] | None] | None:
        """Returns what is kept with each label map of a written shard.

        Returns:
          The texts of each PNG; None for a picture that could not be read. None where the shard is
          not written.

        Raises:
          UserError: where the shard is damaged.
        """
        path, length = self.path(shard), self.length(shard)
        if not path.exists():
            return None
        with named_if_damaged(str(path), "; remove it to have it made again"):
            reader = ArrayRecordReader(os.fspath(path))
            # Of a file that is cut off it finds no records.
            if (found := reader.num_records()) != length:
                raise RuntimeError(f"{found} records instead of {length}")
            records = [reader.read() for _ in range(length)]
        return [texts_in(record) if record else None for record in records]

    def write(self, shard: int, records: list[bytes]) -> None:
        """Writes a shard, completely or not at all.

        Args:
          shard: its number.
          records: its records, as many as its length.

        Raises:
          OutputError: where the file cannot be written.
        """
        assert len(records) == self.length(shard)
        with tempfile.TemporaryDirectory() as folder:
            # The writer knows local files alone; PNGs do not get smaller by its compression.
            local = os.path.join(folder, "shard")
            writer = ArrayRecordWriter(local, "group_size:1,uncompressed")
            for record in records:
                writer.write(record)
            writer.close()
            write(self.path(shard), pathlib.Path(local).read_bytes())
