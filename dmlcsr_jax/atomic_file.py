"""Files that are whole or not there at all."""

import os
import uuid

from etils import epath


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Writes a file under another name and renames it when it is whole.

    Args:
      path: the file, local or remote (`gs://`); one that exists is replaced. Folders above it are
        made.
      data: its content.

    Raises:
      OSError: where it cannot be written, with its name; nothing is left behind then.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = os.fspath(path)
        raise


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a text file in UTF-8 as `write_bytes` does."""
    write_bytes(path, text.encode())
