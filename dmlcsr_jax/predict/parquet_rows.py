"""Photographs in the rows of Parquet files: a column of names and one of encoded bytes."""

import collections
import contextlib
import itertools
import os
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING

from etils import epath

from dmlcsr_jax.errors import UserError, first_line
from dmlcsr_jax.predict.photographs import Picture, absolute, stems

if TYPE_CHECKING:
    import pyarrow.parquet

SUFFIX = ".parquet"
NAME, BYTES = "name", "bytes"
_ROWS_AT_A_TIME = 16
# Else all of a row group's bytes are in memory.
_BUFFER = 2**23


def parquet_files(path: epath.PathLike) -> list[epath.Path]:
    """Returns the Parquet files in a folder, or the path itself where it is one; by name."""
    path = absolute(path)
    if path.name.lower().endswith(SUFFIX) and not path.is_dir():
        return [path]
    below = path.iterdir() if path.is_dir() else ()
    return sorted(file for file in below if file.name.lower().endswith(SUFFIX))


class ParquetRows:
    """The rows of Parquet files, each a photograph: `name`, text, and `bytes`, an encoded picture.

    Names are like those of files below a folder, `a/b.jpg`, and name the outputs as files would.
    Here they are read, all of them, and the bytes are not.

    Attributes:
      base: the first file.
      files: all of them.
      groups: what `read` reads at a time.
    """

    def __init__(self, files: list[epath.Path]):
        """Reads the names.

        Args:
          files: from `parquet_files`, local or remote.

        Raises:
          UserError: where a file cannot be read or lacks a column, or a name is none or is there
            twice.
        """
        self.files, self.base = files, files[0]
        self._names: list[str] = []
        self.groups: list[tuple[int, int]] = []
        for number, file in enumerate(files):
            with _opened(file) as rows:
                self.groups += ((number, group) for group in range(rows.num_row_groups))
                self._names += rows.read([NAME])[NAME].to_pylist()
        for name, count in collections.Counter(self._names).items():
            if not name or not _is_below(name):
                raise UserError(
                    f"{self.base} has a row of the name {name!r}; names are as of files below a "
                    "folder, such as 'a/b.jpg'."
                )
            if count > 1:
                raise UserError(f"{self.base} has {count} rows of the name {name!r}; rename them.")
        by_folder = collections.defaultdict(list)
        for name in self._names:
            by_folder[posixpath.dirname(name)].append(posixpath.basename(name))
        # Most names give their stem by themselves; each actor is sent the others.
        self._other_stems: dict[str, str] = {}
        for folder, names in by_folder.items():
            for name, stem in stems(names).items():
                if stem != os.path.splitext(name)[0]:
                    place = posixpath.join(folder, name)
                    self._other_stems[place] = posixpath.join(folder, stem)

    def __getstate__(self) -> dict:
        """Returns what `read` needs in another process: not the names."""
        return vars(self) | {"_names": []}

    def __iter__(self) -> Iterator[Picture]:
        """Yields the rows in order, without their bytes."""
        for index, name in enumerate(self._names):
            yield self._picture(index, name)

    def names(self) -> Iterator[str]:
        """Yields the names of all rows."""
        return iter(self._names)

    def read(self, number: int, group: int) -> Iterator[Picture]:
        """Yields the rows of one of `groups` with their bytes, few of which are in memory.

        Args:
          number: of the file.
          group: of the row group there.

        Raises:
          UserError: where the file cannot be read.
        """
        index = itertools.count()
        with _opened(self.files[number]) as rows:
            batches = rows.iter_batches(_ROWS_AT_A_TIME, row_groups=[group], columns=[NAME, BYTES])
            for batch in batches:
                for name, data in zip(batch[NAME].to_pylist(), batch[BYTES], strict=True):
                    yield self._picture(next(index), name, data.as_py() or b"")

    def _picture(self, index: int, name: str, data: bytes | None = None) -> Picture:
        stem = self._other_stems.get(name) or os.path.splitext(name)[0]
        return Picture(index, name, stem, source=data, title=f"{self.base}: {name}")


@contextlib.contextmanager
def _opened(file: epath.Path) -> Iterator["pyarrow.parquet.ParquetFile"]:
    """Gives an opened file whose columns have been looked at; errors name it."""
    import pyarrow.parquet  # Of the extra ray.

    try:
        with (
            file.open("rb") as data,
            pyarrow.parquet.ParquetFile(data, buffer_size=_BUFFER) as rows,
        ):
            schema = rows.schema_arrow
            kinds = {field.name: str(field.type).removeprefix("large_") for field in schema}
            if (kinds.get(NAME), kinds.get(BYTES)) != ("string", "binary"):
                columns = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
                raise UserError(
                    f"{file} has the columns {columns}; photographs are in {BYTES} (binary) and "
                    f"their names in {NAME} (string)."
                )
            yield rows
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file} cannot be read: {first_line(error)}.") from error


def _is_below(name: str) -> bool:
    return posixpath.normpath(name) == name and not name.startswith(("/", "..")) and name != "."
