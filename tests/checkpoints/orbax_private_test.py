"""That Orbax and TensorStore still have what is used of their private parts."""

import asyncio
import gc
import importlib
import logging
import sys
import threading

import orbax.checkpoint as ocp
import pytest

from dmlcsr_jax.checkpoints import orbax_private


@pytest.mark.parametrize(
    ("name", "value"),
    [("TMP_DIR_SUFFIX", ".orbax-checkpoint-tmp"), ("COMMIT_SUCCESS_FILE", "commit_success.txt")],
)
def test_names_of_unfinished_checkpoints(name, value):
    where = "orbax.checkpoint._src.path.atomicity_types"
    found = getattr(importlib.import_module(where), name, None)
    assert found == value, f"{where}.{name} is gone: a kill during a replacement would go unseen"


@pytest.mark.parametrize("name", ["_wait_for_checkpointers", "reached_preemption"])
def test_methods_that_are_overridden(name):
    assert hasattr(ocp.CheckpointManager, name), f"ocp.CheckpointManager.{name} is gone: {name}"


def test_a_failed_save_is_told_at_once(tmp_path, monkeypatch):
    """Where Orbax no longer calls `_wait_for_checkpointers`, other processes would wait."""
    told = []
    manager = orbax_private.Manager(tmp_path, ocp.CheckpointManagerOptions(), told.append)
    failure = OSError("the disk is gone")

    def fail(checkpointer):
        # The thread that completes a save; the main one waits for the save before.
        if threading.current_thread() is not threading.main_thread():
            raise failure

    monkeypatch.setattr(ocp.AsyncCheckpointer, "wait_until_finished", fail)
    manager.save(1, args=ocp.args.Composite(note=ocp.args.JsonSave({})))
    with pytest.raises(OSError, match="the disk is gone"):
        manager.wait_until_finished()
    assert failure in told, "ocp.CheckpointManager._wait_for_checkpointers is gone: never called"


@pytest.fixture
def unquieted(monkeypatch):
    """As before `quiet_background_threads`, and afterwards as it was."""
    for name in ("absl", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


def test_only_what_is_raised_too_is_kept_off_stderr(unquieted):
    shown = []
    sys.unraisablehook = shown.append
    orbax_private.quiet_background_threads()
    once = sys.unraisablehook
    orbax_private.quiet_background_threads()
    assert sys.unraisablehook is once

    class Unraisable:
        def __init__(self, error, source):
            self.exc_value, self.object = error, source

    others = [
        Unraisable(RuntimeError("Event loop is closed"), "a finaliser"),
        Unraisable(RuntimeError("another"), None),
        Unraisable(ValueError("Event loop is closed"), None),
    ]
    for unraisable in (*others, Unraisable(RuntimeError("Event loop is closed"), None)):
        sys.unraisablehook(unraisable)
    assert shown == others

    def is_logged(level, path):
        record = logging.LogRecord("absl", level, path, 1, "text", None, None)
        return bool(logging.getLogger("absl").filter(record))

    assert not is_logged(logging.ERROR, "site-packages/orbax/checkpoint/future.py")
    assert is_logged(logging.WARNING, "site-packages/orbax/checkpoint/future.py")
    assert is_logged(logging.ERROR, "site-packages/grain/reader.py")


@pytest.mark.parametrize(
    ("file", "text", "logged"),
    [
        ("site-packages/orbax/serialization.py", "Task exception was never retrieved", False),
        ("site-packages/orbax/serialization.py", "another text", True),
        ("users/program.py", "Task exception was never retrieved", True),
    ],
)
def test_only_tasks_of_orbax_are_kept_off_stderr(unquieted, file, text, logged):
    orbax_private.quiet_background_threads()
    try:
        exec(compile("raise ValueError", file, "exec"))
    except ValueError:
        record = logging.LogRecord("asyncio", logging.ERROR, "", 1, text, None, sys.exc_info())
    assert bool(logging.getLogger("asyncio").filter(record)) is logged


@pytest.mark.parametrize("raised", [False, True])
def test_only_futures_that_nothing_in_python_has_failed_are_kept_off_stderr(
    unquieted, caplog, raised
):
    """TensorStore's, of which the first alone is waited for."""
    orbax_private.quiet_background_threads()
    error = OSError("No space left on device")
    if raised:
        try:
            raise error
        except OSError as caught:
            error = caught
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.set_exception(error)
    loop.close()
    del future
    gc.collect()
    assert ("never retrieved" in caplog.text) is raised
