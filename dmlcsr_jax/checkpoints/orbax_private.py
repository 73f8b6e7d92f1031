"""The one file that uses Orbax's private interface, and TensorStore's where it has no other."""

import glob
import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable

import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint._src.path.atomicity_types import COMMIT_SUCCESS_FILE, TMP_DIR_SUFFIX


def withdraw(path: epath.Path) -> None:
    """Marks a complete checkpoint as unfinished in one step, so that no reader takes it.

    Orbax removes its files one by one; what a kill left of them would still look complete. It tells
    an unfinished checkpoint by its name, in a bucket by a file that it lacks.
    """
    if "://" in os.fspath(path):
        (path / COMMIT_SUCCESS_FILE).unlink(missing_ok=True)
    else:
        path.rename(path.with_name(path.name + TMP_DIR_SUFFIX))


def remove_unfinished(path: epath.Path) -> None:
    """Removes what a save to `path` that has failed has left beside it, as far as that is possible.

    TensorStore's threads still write what they have begun: it looks again until nothing comes.
    """
    if "://" in os.fspath(path):
        return
    for _ in range(20):
        left = list(path.parent.glob(f"{glob.escape(path.name)}{TMP_DIR_SUFFIX}*"))
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)
        if not left:
            return


class Manager(ocp.CheckpointManager):
    """Saves when it is told to, and tells at once where a save has failed."""

    def __init__(
        self,
        directory: epath.Path,
        options: ocp.CheckpointManagerOptions,
        on_failure: Callable[[Exception], None],
    ):
        """Opens or makes `directory`; calls `on_failure` with what a save raised, before it is."""
        self._on_failure = on_failure
        super().__init__(directory, options=options)

    def reached_preemption(self, step: int) -> bool:
        """Returns False: `preemption.PreemptionWatch` alone asks for SIGTERM.

        JAX agrees on the next number it is asked with; asked with the numbers of checkpoints too,
        it would wait for one that never comes.
        """
        return False

    def _wait_for_checkpointers(self):
        try:
            super()._wait_for_checkpointers()
        except Exception as error:
            self._on_failure(error)
            raise


def quiet_background_threads() -> None:
    """Keeps off stderr what background threads print of a failed read or save; it is raised too.

    Orbax logs what it then raises, and asyncio the same of each array. TensorStore's callbacks
    come late: the first of many arrays that fails ends Orbax's event loop, and each of the others
    then prints a traceback, "Event loop is closed", from a thread where nothing can catch it.
    """
    global _shown
    logging.getLogger("absl").addFilter(_is_not_orbax)
    logging.getLogger("asyncio").addFilter(_is_not_of_a_save)
    if sys.unraisablehook is not _show:
        _shown, sys.unraisablehook = sys.unraisablehook, _show


# What shows the others.
_shown = sys.unraisablehook


def _show(unraisable) -> None:
    late = isinstance(unraisable.exc_value, RuntimeError) and unraisable.object is None
    if not (late and str(unraisable.exc_value) == "Event loop is closed"):
        _shown(unraisable)


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "/orbax/" not in record.pathname


def _is_not_of_a_save(record: logging.LogRecord) -> bool:
    if not record.exc_info or "never retrieved" not in record.getMessage():
        return True
    frames = traceback.extract_tb(record.exc_info[2])
    # TensorStore's futures are given errors that no line of Python has raised.
    return bool(frames) and not any("/orbax/" in frame.filename for frame in frames)
