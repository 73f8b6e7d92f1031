"""Photographs and videos to parse: found in folders, or named one by one."""

import collections
import dataclasses
import os
import posixpath
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath

from dmlcsr_jax.data import animation, heic
from dmlcsr_jax.data.addresses import as_path
from dmlcsr_jax.data.decode import decode_image, fingerprint, read_bytes
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.camera import is_camera

PHOTO_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    *heic.SUFFIXES,
)
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
# A folder with this file was written by prediction; its `OUTPUT_FOLDERS` hold no photographs.
MARKER = "predict.json"
OUTPUT_FOLDERS = ("labels", "overlays", "masks", "cutouts", "annotations", "labelme", "yolo")


@dataclasses.dataclass(frozen=True)
class Picture:
    """One photograph or video to parse.

    Attributes:
      index: its place among all of them.
      name: file name relative to the source's base, with `/`; or the record's name.
      stem: what the files written for it are named, without suffix; differs between any two. None
        for a record, whose label map is a record too.
      moves: whether it is a picture of several frames, or a webcam.
      source: its file, or its bytes; None for a record that is not read yet.
      title: what errors call it; "": its file.
    """

    index: int
    name: str
    stem: str | None = None
    moves: bool = False
    source: epath.Path | bytes | None = None
    title: str = ""

    @property
    def is_video(self) -> bool:
        """Whether there are several frames: a video by its suffix, or what `moves`."""
        return self.moves or self.name.lower().endswith(VIDEO_SUFFIXES)

    def fingerprint(self, limits: Limits) -> str:
        """Returns the fingerprint of its bytes, of a file no more than `limits` allow.

        Raises:
          UserError: where its file cannot be read.
        """
        data = self.source if isinstance(self.source, bytes) else read_bytes(self.source, limits)
        return fingerprint(data)


def read_photograph(path: epath.PathLike) -> np.ndarray:
    """Reads a photograph in its EXIF orientation.

    Args:
      path: the file, local or remote.

    Returns:
      uint8 `[H, W, 3]` RGB; grey is repeated, transparency dropped, 16 bits reduced to 8.

    Raises:
      UserError: where the file cannot be read, is cut off or is no picture.
    """
    path = as_path(path)
    return decode_image(read_bytes(path), os.fspath(path))


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
        for path in map(absolute, paths):
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
                path = folder / name
                moves = is_camera(path) or animation.is_animated(path)
                yield Picture(index, relative, stem, moves, path, os.fspath(path))
                index += 1

    def names(self) -> Iterator[str]:
        """Yields the names of all pictures."""
        return (picture.name for picture in self)

    def read(self, picture: Picture) -> Picture:
        """Returns the picture: its file is known."""
        return picture

    def _by_folder(self) -> Iterator[tuple[epath.Path, list[str], dict[str, str]]]:
        for root in self._folders:
            for folder, below, files in _walk(root):
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
                yield folder, names, stems(names)
        by_parent = collections.defaultdict(list)
        for file in self._files:
            by_parent[file.parent].append(file.name)
        for folder, names in sorted(by_parent.items()):
            # Named the same whether all of the folder is parsed or this file alone.
            siblings = filter(_has_known_suffix, (path.name for path in folder.iterdir()))
            yield folder, names, stems({*siblings, *names})


def _walk(root: epath.Path) -> Iterator[tuple[epath.Path, list[str], list[str]]]:
    """Yields folders as `os.walk` does, top down, and none below those that are taken out.

    Of remote ones etils leaves the scheme out, and looks below all.
    """
    if "://" not in os.fspath(root):
        yield from root.walk()
        return
    import fsspec  # It comes with what reads buckets.

    files, path = fsspec.url_to_fs(os.fspath(root))
    kinds = {
        posixpath.basename(entry["name"]): entry["type"] for entry in files.ls(path, detail=True)
    }
    # A folder may be an entry of itself, without a name.
    below = [name for name, kind in kinds.items() if name and kind == "directory"]
    yield root, below, [name for name, kind in kinds.items() if name and kind == "file"]
    for name in below:
        yield from _walk(root / name)


def _has_known_suffix(name: str) -> bool:
    is_known = name.lower().endswith(PHOTO_SUFFIXES + VIDEO_SUFFIXES)
    return is_known and not name.startswith(".")


def stems(names) -> dict[str, str]:
    """Returns what to call each file of a folder without its suffix, no two alike.

    A file whose name without suffix belongs to another one too keeps its suffix: `a.jpg` and
    `a.png` become `a.jpg` and `a.png`, not both `a`.
    """
    # Some file systems do not tell `a` from `A`.
    counts = collections.Counter(os.path.splitext(name)[0].casefold() for name in names)
    names_folded = {name.casefold() for name in names}
    stems = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        key = stem.casefold()
        is_clear = _has_known_suffix(name) and counts[key] == 1 and key not in names_folded
        stems[name] = stem if is_clear else name
    return stems


def absolute(path: epath.PathLike) -> epath.Path:
    """Returns a local path from the root on; a remote one (`gs://`) as it is.

    Raises:
      UserError: where it is another address.
    """
    path = as_path(path)
    return path if "://" in os.fspath(path) else epath.Path(os.path.abspath(path))


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
