"""ArrayRecord input: prepared sets and shards of photographs."""

import bisect
import itertools
import os
from collections.abc import Iterator

import numpy as np
from absl import flags
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

from dmlcsr_jax.data.decode import decode_image
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.photographs import Picture, _absolute


class RecordFiles:
    """The records of ArrayRecord files, each an encoded picture, or of a prepared set.

    Attributes:
      base: the file or folder.
    """

    def __init__(self, path: epath.PathLike, split: str = "all"):
        """Opens the files.

        Args:
          path: an ArrayRecord file, a folder of such files, or a set that `data.prepare` wrote.
          split: of a prepared set, as tensorflow-datasets names it; "all" for all of it.

        Raises:
          UserError: where the files or the split cannot be opened.
        """
        # ArrayRecord reads absl's flags, which a command line without absl never parses.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        self.base = _absolute(path)
        self._prepared = None
        if (self.base / "dataset_info.json").exists():
            # Imported here: it brings tensorflow-datasets, which other inputs do without.
            from dmlcsr_jax.data.prepared import PreparedSource

            self._prepared = PreparedSource(self.base, split)
            self._length = len(self._prepared)
            return
        if split != "all":
            raise UserError(f"{self.base} is no prepared set; it has no split {split!r}.")
        files = sorted(_record_files(self.base)) if self.base.is_dir() else [self.base]
        self._names = [file.name for file in files]
        try:
            self._sources = [ArrayRecordDataSource(os.fspath(file)) for file in files]
            lengths = [len(source) for source in self._sources]
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.base} cannot be read as ArrayRecord: {reason}.") from error
        self._ends = list(itertools.accumulate(lengths))
        self._length = self._ends[-1]

    @staticmethod
    def recognizes(path: epath.PathLike) -> bool:
        """Returns whether a path is an ArrayRecord file or a folder of such files."""
        path = _absolute(path)
        if path.is_dir():
            return (path / "dataset_info.json").exists() or any(_record_files(path))
        return ".array_record" in path.name

    def __len__(self) -> int:
        """Returns the number of records."""
        return self._length

    def __iter__(self) -> Iterator[Picture]:
        """Yields the records in order; those of a prepared set get their names when read."""
        for index in range(self._length):
            name = f"record {index}" if self._prepared is not None else self._name(index)
            yield Picture(index, name, f"{index:09d}")

    def read(self, picture: Picture) -> tuple[str, np.ndarray]:
        """Returns the record's name and its photograph, uint8 `[H, W, 3]` RGB.

        Raises:
          UserError: where the record is damaged or no picture.
        """
        if self._prepared is not None:
            example = self._prepared[picture.index]
            return example["name"], example["image"]
        file, place = self._place(picture.index)
        name = picture.name
        try:
            data = self._sources[file][place]
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"record {name} cannot be read: {reason}.") from error
        return name, decode_image(data, f"record {name}")

    def _place(self, index: int) -> tuple[int, int]:
        """Returns the file that record `index` of all is in, and its number there."""
        file = bisect.bisect_right(self._ends, index)
        return file, index - (self._ends[file - 1] if file else 0)

    def _name(self, index: int) -> str:
        file, place = self._place(index)
        return f"{self._names[file]}:{place}"


def _record_files(folder: epath.Path) -> list[epath.Path]:
    return [path for path in folder.iterdir() if ".array_record" in path.name]
