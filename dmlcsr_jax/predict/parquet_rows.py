"""Photographs in the rows of Parquet files: a column of names and one of encoded bytes."""

import collections
import os
import posixpath
from collections.abc import Iterator, Mapping

from etils import epath

from dmlcsr_jax.errors import UserError, first_line
from dmlcsr_jax.predict.photographs import Picture, absolute, stems

SUFFIX = ".parquet"
NAME, BYTES = "name", "bytes"


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
    """

    def __init__(self, files: list[epath.Path]):
        """Reads the names.

        Args:
          files: from `parquet_files`, local or remote.

        Raises:
          UserError: where a file cannot be read or lacks a column, or a name is none or is there
            twice.
        """
        import pyarrow.dataset  # Of the extra ray.

        self.files, self.base = files, files[0]
        self._names: list[str] = []
        for file in files:
            try:
                rows = pyarrow.dataset.dataset(os.fspath(file), format="parquet")
                kinds = {field.name: field.type for field in rows.schema}
                self._require_columns(file, kinds)
                self._names += rows.to_table([NAME])[NAME].to_pylist()
            except (OSError, pyarrow.ArrowException) as error:
                raise UserError(f"{file} cannot be read: {first_line(error)}.") from error
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
        """Returns what `picture` needs in another process: not the names."""
        return vars(self) | {"_names": []}

    def __iter__(self) -> Iterator[Picture]:
        """Yields the rows in order, without their bytes."""
        for index, name in enumerate(self._names):
            yield self.picture(index, name)

    def picture(self, index: int, name: str, data: bytes | None = None) -> Picture:
        """Returns a row as a picture.

        Args:
          index: its place.
          name: of the column.
          data: of the column; None: not read.
        """
        stem = self._other_stems.get(name) or os.path.splitext(name)[0]
        return Picture(index, name, stem, source=data, title=f"{self.base}: {name}")

    def names(self) -> Iterator[str]:
        """Yields the names of all rows."""
        return iter(self._names)

    def _require_columns(self, file: epath.Path, kinds: Mapping) -> None:
        import pyarrow

        of_text = (pyarrow.string(), pyarrow.large_string())
        of_bytes = (pyarrow.binary(), pyarrow.large_binary())
        if kinds.get(NAME) not in of_text or kinds.get(BYTES) not in of_bytes:
            columns = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            raise UserError(
                f"{file} has the columns {columns}; photographs are in {BYTES} (binary) and their "
                f"names in {NAME} (string)."
            )


def _is_below(name: str) -> bool:
    return posixpath.normpath(name) == name and not name.startswith(("/", "..")) and name != "."
