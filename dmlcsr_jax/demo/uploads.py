"""The folder of a page's uploads: what may be opened of it, and that nothing stays in it."""

import contextlib
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator

# Files are deleted so long after they were written last, looked for so often.
SECONDS_KEPT = 600.0
SECONDS_BETWEEN = 60.0
# Gradio names the folder of an upload after its content and a secret: nobody else guesses it.
_UPLOAD = re.compile("[0-9a-f]{64}")
# Deletes the folder once the process that started it is gone, however it ended.
_DELETE_AT_THE_END = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], True)"


@contextlib.contextmanager
def uploads_folder() -> Iterator[str]:
    """Gives a new folder that is gone afterwards, also where this process is killed."""
    folder = os.path.realpath(tempfile.mkdtemp(prefix="dmlcsr_jax_demo_"))
    # In a session of its own Ctrl-C does not reach it.
    with subprocess.Popen(
        [sys.executable, "-I", "-c", _DELETE_AT_THE_END, folder],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_upload(folder: str, path: str) -> bool:
    """Returns whether a path is that of a complete upload, and of no other file.

    Args:
      folder: of the uploads.
      path: whatever a browser says.
    """
    place, name = os.path.split(path)
    above, own = os.path.split(place)
    if above != folder or not _UPLOAD.fullmatch(own) or name in ("", ".", ".."):
        return False
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def new_path(folder: str, name: str) -> pathlib.Path:
    """Returns a path that nobody guesses, in a folder of its own that is made.

    Args:
      folder: of the uploads.
      name: of the file.
    """
    own = pathlib.Path(folder) / uuid.uuid4().hex
    own.mkdir()
    return own / name


@contextlib.contextmanager
def old_files_deleted(folder: str, forget_old: Callable[[], None]) -> Iterator[None]:
    """Deletes what becomes old while its body runs, uploads that broke off too.

    What is there at the beginning, which is the page's own, stays.

    Args:
      folder: of the uploads.
      forget_old: called as often as files are looked for.
    """
    own = set(pathlib.Path(folder).rglob("*"))
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(SECONDS_BETWEEN):
            _delete_old(pathlib.Path(folder), own)
            forget_old()

    thread = threading.Thread(target=run, name="uploads", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _delete_old(folder: pathlib.Path, own: set[pathlib.Path]) -> None:
    before = time.time() - SECONDS_KEPT
    # Folders come after what is in them; those that are not empty stay.
    for path in sorted(set(folder.rglob("*")) - own, reverse=True):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_mtime > before:
                continue
            path.rmdir() if stat.S_ISDIR(status.st_mode) else path.unlink()
