"""What the command line names: photographs and videos, ArrayRecord files, or a prepared set."""

import bisect
import contextlib
import dataclasses
import glob
import itertools
import os
from collections.abc import Iterator, Sequence

from absl import flags
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

from dmlcsr_jax.data.decode import require_regular
from dmlcsr_jax.data.prepared_sets import is_prepared_set, prepared_sets
from dmlcsr_jax.errors import UserError, first_line
from dmlcsr_jax.predict.photographs import PhotoFiles, Picture, absolute


def record_files(path: epath.Path) -> list[epath.Path]:
    """Returns the ArrayRecord files in a folder, or the path itself where it is one; by name."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if ".array_record" in file.name)
    return [path] if ".array_record" in path.name else []


@contextlib.contextmanager
def named_if_damaged(name: str, advice: str = "") -> Iterator[None]:
    """Turns what array_record raises for a damaged file into a `UserError` that names it."""
    try:
        yield
    except RuntimeError as error:
        reason = first_line(error)
        raise UserError(f"{name} cannot be read: {reason}{advice}.") from error


class RecordFiles:
    """The records of ArrayRecord files, each an encoded picture.

    Attributes:
      base: the file or folder.
    """

    def __init__(self, path: epath.PathLike):
        """Opens the files.

        Args:
          path: an ArrayRecord file, or a folder of such files.

        Raises:
          UserError: where a file cannot be opened, or is part of a prepared set.
        """
        path = epath.Path(path)
        if is_prepared_set(path.parent):
            raise UserError(
                f"{path} is a part of a prepared set; give the folder {path.parent} instead, and "
                "--split for one of its splits."
            )
        # ArrayRecord reads absl's flags, which a command line without absl never parses.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        self.base = path
        files = record_files(path)
        self._names = [file.name for file in files]
        for file in files:
            require_regular(file)
        with named_if_damaged(str(path)):
            self._files = [ArrayRecordDataSource(os.fspath(file)) for file in files]
            self._ends = list(itertools.accumulate(map(len, self._files)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[Picture]:
        """Yields the records in order, named by file and place."""
        for index in range(len(self)):
            file, place = self._place(index)
            yield Picture(index, f"{self._names[file]}:{place}")

    def names(self) -> Iterator[str]:
        """Yields the names of all records."""
        return (picture.name for picture in self)

    def read(self, picture: Picture) -> Picture:
        """Returns the picture with the record's bytes.

        Raises:
          UserError: where the record is damaged.
        """
        file, place = self._place(picture.index)
        name = f"record {picture.name}"
        with named_if_damaged(name):
            data = self._files[file][place]
        return dataclasses.replace(picture, source=data, title=name)

    def _place(self, index: int) -> tuple[int, int]:
        """Returns the file that record `index` of all is in, and its number there."""
        file = bisect.bisect_right(self._ends, index)
        return file, index - (self._ends[file - 1] if file else 0)


class PreparedSet:
    """The photographs of a set that `data.prepare` wrote.

    Attributes:
      base: the set's folder.
    """

    def __init__(self, path: epath.PathLike, split: str):
        """Opens the set.

        Args:
          path: the set, as `data.prepared.PreparedSource` takes it.
          split: as tensorflow-datasets names it; "all" for all of them.

        Raises:
          UserError: where the set or the split cannot be opened.
        """
        # Imported here: it brings tensorflow-datasets, which other inputs do without.
        from dmlcsr_jax.data.prepared import PreparedSource

        self._source = PreparedSource(path, split)
        self.base = self._source.folder

    def __iter__(self) -> Iterator[Picture]:
        """Yields the examples in order, by number: their names are known when they are read."""
        return (Picture(index, f"record {index}") for index in range(len(self._source)))

    def names(self) -> Iterator[str]:
        """Yields the names of all examples, for which it reads their records."""
        for picture in self:
            # A damaged record is an error when it is parsed.
            with contextlib.suppress(UserError):
                yield self._source.name(picture.index)

    def read(self, picture: Picture) -> Picture:
        """Returns the picture with the example's name and the bytes of its photograph.

        Raises:
          UserError: where the record is damaged.
        """
        name, data = self._source.encoded_image(picture.index)
        return dataclasses.replace(picture, name=name, source=data, title=name)


def open_source(
    inputs: Sequence[epath.PathLike], split: str
) -> PhotoFiles | RecordFiles | PreparedSet:
    """Opens what the command line names.

    A folder that holds a prepared set is taken for it, as training takes it; one with photographs
    beside or above the set is a folder of photographs.

    Args:
      inputs: photographs, videos and folders; or one ArrayRecord file, folder of such files, or
        prepared set.
      split: of a prepared set, as tensorflow-datasets names it; "all" for all of it.

    Raises:
      UserError: where an input cannot be opened, inputs of several kinds are named, or `split` is
        for none.
    """
    paths = [absolute(path) for name in inputs for path in _expanded(name)]
    kinds = {kind for kind in map(_kind, paths) if kind is not PhotoFiles}
    if kinds and len(paths) > 1:
        raise UserError(
            "ArrayRecord files or a prepared set must be the only input; give their folder."
        )
    if PreparedSet in kinds:
        return PreparedSet(paths[0], split)
    if split != "all":
        raise UserError(f"--split is for prepared sets, and {inputs[0]} is none; leave it.")
    return RecordFiles(paths[0]) if kinds else PhotoFiles(paths)


def _expanded(name: epath.PathLike) -> list[str]:
    """Returns the files that a pattern such as `photos/*.jpg` matches; else the name as it is."""
    name = os.fspath(name)
    if not glob.has_magic(name) or os.path.lexists(name):
        return [name]
    return sorted(glob.glob(name, recursive=True)) or [name]


def _kind(path: epath.Path) -> type:
    if is_prepared_set(path):
        return PreparedSet
    if record_files(path):
        return RecordFiles
    # Most folders end the search at their first photograph.
    is_empty = path.is_dir() and not any(PhotoFiles([path]))
    return PreparedSet if is_empty and prepared_sets(path) else PhotoFiles
