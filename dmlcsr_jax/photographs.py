"""Photographs to parse: found in folders or named, or as the records of ArrayRecord files."""

import bisect
import collections
import csv
import dataclasses
import itertools
import math
import os
from collections.abc import Iterator, Sequence

import numpy as np
from absl import flags
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath

from dmlcsr_jax.data.decode import decode_image
from dmlcsr_jax.errors import UserError

PHOTO_SUFFIXES = (".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")

# A folder with this file was written by prediction; its `labels` and `overlays` are no photographs.
MARKER = "predict.json"
OUTPUT_FOLDERS = ("labels", "overlays")


@dataclasses.dataclass(frozen=True)
class Picture:
    """One photograph or video to parse.

    Attributes:
      index: its place among all of them.
      name: file name relative to the source's base, with `/`; or the record's name.
      stem: what the files written for it are named, without suffix; differs between any two.
    """

    index: int
    name: str
    stem: str

    @property
    def is_video(self) -> bool:
        """Whether it is a video by its suffix."""
        return self.name.lower().endswith(VIDEO_SUFFIXES)


def read_photograph(path: epath.PathLike) -> np.ndarray:
    """Reads a photograph in its EXIF orientation.

    Args:
      path: the file, local or remote.

    Returns:
      uint8 `[H, W, 3]` RGB; grey is repeated, transparency dropped, 16 bits reduced to 8.

    Raises:
      UserError: where the file cannot be read, is cut off or is no picture.
    """
    path = epath.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    return decode_image(data, os.fspath(path))


class PhotoFiles:
    """Photographs and videos in folders, below them, and named one by one.

    Hidden files and folders are left out, and so is what prediction wrote. In folders, files count
    by their suffix; a file that is named is taken whatever its suffix.

    Attributes:
      base: the folder that names are relative to: the one folder given, else the folder common to
        all that is given.
      ignored: number of files in the folders by suffix that are no photographs, after a full
        iteration.
    """

    def __init__(self, paths: Sequence[epath.PathLike]):
        """Looks at what is named, not yet into the folders.

        Args:
          paths: files and folders.

        Raises:
          UserError: where one does not exist, or was written by prediction.
        """
        self._folders, files = [], set()
        for path in map(_absolute, paths):
            if path.is_dir():
                self._folders.append(path)
            elif path.exists():
                files.add(path)
            else:
                raise UserError(f"{path} does not exist; name a photograph or a folder.")
            _refuse_own_output(path)
        self._folders = _outermost(self._folders)
        self._files = sorted(
            file for file in files if not any(_is_below(file, f) for f in self._folders)
        )
        parents = [*self._folders, *(file.parent for file in self._files)]
        self.base = _common_folder(parents)
        self.ignored: collections.Counter[str] = collections.Counter()

    def __iter__(self) -> Iterator[Picture]:
        """Yields the pictures, in the order of their folders and names, always the same."""
        self.ignored = collections.Counter()
        index = 0
        for folder, names, stems in self._by_folder():
            for name in names:
                relative = (folder / name).relative_to(self.base).as_posix()
                stem = (folder / stems[name]).relative_to(self.base).as_posix()
                yield Picture(index, relative, stem)
                index += 1

    def path(self, picture: Picture) -> epath.Path:
        """Returns the picture's file."""
        return self.base / picture.name

    def read(self, picture: Picture) -> tuple[str, np.ndarray]:
        """Returns the picture's name and what `read_photograph` makes of its file."""
        return picture.name, read_photograph(self.path(picture))

    def _by_folder(self) -> Iterator[tuple[epath.Path, list[str], dict[str, str]]]:
        for root in self._folders:
            for folder, below, files in root.walk():
                below[:] = sorted(name for name in below if not name.startswith("."))
                if MARKER in files:
                    below[:] = [name for name in below if name not in OUTPUT_FOLDERS]
                names = []
                for name in sorted(files):
                    if name.startswith(".") or name == MARKER:
                        continue
                    if _has_known_suffix(name):
                        names.append(name)
                    else:
                        self.ignored[os.path.splitext(name)[1].lower() or name] += 1
                yield folder, names, _stems(names)
        by_parent = collections.defaultdict(list)
        for file in self._files:
            by_parent[file.parent].append(file.name)
        for folder, names in sorted(by_parent.items()):
            # Named the same whether all of the folder is parsed or this file alone.
            siblings = filter(_has_known_suffix, (path.name for path in folder.iterdir()))
            yield folder, names, _stems({*siblings, *names})


def _has_known_suffix(name: str) -> bool:
    is_known = name.lower().endswith(PHOTO_SUFFIXES + VIDEO_SUFFIXES)
    return is_known and not name.startswith(".")


def _stems(names) -> dict[str, str]:
    """Returns what to call each file of a folder without its suffix, no two alike.

    A file whose name without suffix belongs to another one too keeps its suffix: `a.jpg` and
    `a.png` become `a.jpg` and `a.png`, not both `a`.
    """
    # Some file systems do not tell `a` from `A`.
    counts = collections.Counter(os.path.splitext(name)[0].casefold() for name in names)
    whole = {name.casefold() for name in names}
    stems = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        key = stem.casefold()
        is_clear = _has_known_suffix(name) and counts[key] == 1 and key not in whole
        stems[name] = stem if is_clear else name
    return stems


def _absolute(path: epath.PathLike) -> epath.Path:
    text = os.fspath(path)
    return epath.Path(text if "://" in text else os.path.abspath(text))


def _is_below(path: epath.Path, folder: epath.Path) -> bool:
    return folder in path.parents


def _outermost(folders: Sequence[epath.Path]) -> list[epath.Path]:
    """Returns the folders in order, without those that lie in others."""
    unique = sorted(set(folders))
    return [f for f in unique if not any(_is_below(f, other) for other in unique)]


def _common_folder(folders: Sequence[epath.Path]) -> epath.Path:
    common = folders[0]
    while not all(common == folder or _is_below(folder, common) for folder in folders):
        common = common.parent
    return common


def _refuse_own_output(path: epath.Path) -> None:
    for folder in (path, *path.parents):
        if folder.name in OUTPUT_FOLDERS and (folder.parent / MARKER).exists():
            raise UserError(
                f"{path} was written by prediction; name the photographs it was made of."
            )


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


def read_boxes(path: epath.PathLike) -> dict[str, list[tuple[float, ...]]]:
    """Reads face boxes from a CSV file with the header `name,x0,y0,x1,y1`.

    Args:
      path: the file; a line is a face, a photograph may have several. `name` is the photograph's,
        relative to the folder that is parsed; the box is left, top, right and bottom edge in
        pixels from the photograph's top left corner.

    Returns:
      Name to boxes, in the order of the lines.

    Raises:
      UserError: where the file cannot be read, or names the line that is not understood.
    """
    path = epath.Path(path)
    try:
        lines = path.read_text().lstrip("\ufeff").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the face boxes {path} cannot be read: {error}.") from error
    columns = ("name", "x0", "y0", "x1", "y1")
    reader = csv.DictReader(lines)
    if missing := set(columns) - set(reader.fieldnames or ()):
        raise UserError(
            f"{path} lacks the column {', '.join(sorted(missing))}; its first line must be "
            f"{','.join(columns)}."
        )
    boxes = collections.defaultdict(list)
    for row in reader:
        try:
            box = tuple(float(row[column]) for column in columns[1:])
        except (TypeError, ValueError):
            box = (math.nan,) * 4
        if not (all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]):
            raise UserError(
                f"{path} line {reader.line_num}: {[row[c] for c in columns[1:]]} is no box; give "
                "four numbers, left below right and top below bottom."
            )
        boxes[row["name"]].append(box)
    return dict(boxes)
