"""Files that are complete or not there at all, and the folders that hold them."""

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator

from etils import epath

from dmlcsr_jax.errors import NO_ROOM, UserError

# How a file's name ends that is not complete yet; a kill leaves it.
PART = ".part"


def make_folder(path: epath.PathLike) -> None:
    """Makes a folder and those above it, local or remote (`gs://`); one that exists stays.

    Raises:
      UserError: where a file is in its place, or it may not be made; says which and why.
      OSError: where the disk is full.
    """
    try:
        epath.Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise UserError(f"cannot make the folder {os.fspath(path)}: {error.strerror}.") from error


def require_place(path: epath.PathLike) -> None:
    """Refuses a file that could not be written, before the work whose result it would hold.

    Folders above it are made.

    Raises:
      UserError: where a folder is in its place, or the one above it cannot be made or written to.
    """
    path = epath.Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: a folder is there; choose another name.")
    make_folder(path.parent)
    part = _part(path)
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose another place."
        ) from error


def _part(path: epath.Path) -> epath.Path:
    # Not named after the file, whose name may be as long as names can be.
    return path.with_name(f".{uuid.uuid4().hex}{PART}")


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Writes a file under another name and renames it when it is complete.

    Args:
      path: the file, local or remote (`gs://`); one that exists is replaced. Folders above it are
        made.
      data: its content.

    Raises:
      UserError: where a folder above it cannot be made.
      OSError: where it cannot be written, with its name; nothing is left behind then.
    """
    with _complete_or_not(path) as part:
        part.write_bytes(data)


def write_parts(path: epath.PathLike, parts: Iterable[bytes]) -> None:
    """Writes a file of its parts, one after the other, as `write_bytes` does."""
    with _complete_or_not(path) as part, part.open("wb") as file:
        for data in parts:
            file.write(data)


@contextlib.contextmanager
def _complete_or_not(path: epath.PathLike) -> Iterator[epath.Path]:
    """Gives the other name under which a file is written."""
    path = epath.Path(path)
    make_folder(path.parent)
    part = _part(path)
    try:
        yield part
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = os.fspath(path)
        raise


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a text file in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())
