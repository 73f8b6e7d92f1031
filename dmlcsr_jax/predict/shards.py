"""ArrayRecord shards of label maps."""

import os
import pathlib
import tempfile

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath

from dmlcsr_jax.predict.outputs import made_of_in, write
from dmlcsr_jax.predict.records import named_if_damaged


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

    def made_of(self, shard: int) -> list[str | None] | None:
        """Returns what each picture of a written shard was made of, as `label_png` has kept it.

        Returns:
          A fingerprint each; None for a picture that could not be read; "" where none is kept. None
          where the shard is not written.

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
        return [made_of_in(record) or "" if record else None for record in records]

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
