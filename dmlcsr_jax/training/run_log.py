"""The record of a run: scalars and panels, without repeated steps after a restart."""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from dmlcsr_jax import atomic_file
from dmlcsr_jax.training import tensorboard_private

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 30


class _TensorBoard:
    """Event files, a folder a kind; where they cannot be written it warns once and is silent.

    They are written by the thread that calls.
    """

    def __init__(self, folder: epath.Path, last_steps: Mapping[str, int]):
        """Opens the files, and hides what is there of steps beyond each kind's last."""
        self._is_silent = False
        self._writers: dict[str, Any] = {}
        self._unflushed: set[str] = set()
        for kind, step in last_steps.items():
            self._try(self._open, kind, os.fspath(folder / kind))
            # TensorBoard takes the first of these for the run's start: without it, the second would
            # hide nothing.
            self.write(kind, tensorboard_private.session_start(step + 1))

    def write(self, kind: str, event) -> None:
        """Writes an event of `tensorboard_private`."""
        self._try(lambda: self._writers[kind].write_event(event))
        self._unflushed.add(kind)

    def flush(self) -> None:
        """Brings new events to the disk, or to the cloud, where each file is uploaded anew."""
        for kind in self._unflushed & self._writers.keys():
            self._try(self._writers[kind].flush)
        self._unflushed.clear()

    def close(self) -> None:
        """Flushes and releases the files."""
        for writer in self._writers.values():
            self._try(writer.close)
        # Its remote files write once more when they are deleted, and fail where Python is ending.
        self._writers.clear()

    def _open(self, kind: str, folder: str) -> None:
        self._writers[kind] = tensorboard_private.open_events(folder)

    def _try(self, act: Callable, *args) -> None:
        if self._is_silent:
            return
        try:
            act(*args)
        except Exception as error:  # A cloud's client has errors of its own.
            self._is_silent = True
            log.warning(
                "TensorBoard's events cannot be written (%s); the run goes on without them, all "
                "numbers are in scalars.jsonl",
                error,
            )


class RunLog:
    """Writes `scalars.jsonl` and TensorBoard events; silent in every process but the first.

    Each line of `scalars.jsonl` is `{"step", "kind", name: value, ...}`, kind "train", "student"
    or "teacher". TensorBoard shows each kind as a run, so that student and teacher share a plot.
    """

    def __init__(
        self, workdir: epath.PathLike, *, step: int, evaluated_step: int, teacher_step: int
    ):
        """Opens the record, and drops what a run that died had written beyond its checkpoint.

        Args:
          workdir: the run's folder.
          step: optimisation steps made so far.
          evaluated_step: the last step at which the student was evaluated; 0: none.
          teacher_step: the step at which the newest finished teacher was made; 0: none.

        Raises:
          OSError: where `scalars.jsonl` cannot be read.
        """
        self._is_writer = jax.process_index() == 0
        if not self._is_writer:
            return
        workdir = epath.Path(workdir)
        self._path = workdir / "scalars.jsonl"
        last_steps = {"train": step, "student": evaluated_step, "teacher": teacher_step}
        self._lines = _kept_lines(self._path, last_steps)
        self._tensorboard = _TensorBoard(workdir / "tensorboard", last_steps)
        self._flushed_at = time.monotonic()

    def scalars(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Records numbers of one step; not-a-number becomes null.

        Raises:
          OSError: where `scalars.jsonl` cannot be written.
        """
        if not self._is_writer:
            return
        values = {name: float(value) for name, value in values.items()}
        finite = {name: value for name, value in values.items() if np.isfinite(value)}
        record = {"step": step, "kind": kind} | dict.fromkeys(values) | finite
        self._lines.append(json.dumps(record))
        self._tensorboard.write(kind, tensorboard_private.scalars(step, finite))
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()

    def panel(self, step: int, name: str, image: np.ndarray) -> None:
        """Records a picture of training, uint8 `[H, W, 3]` RGB, for TensorBoard alone."""
        if self._is_writer:
            self._tensorboard.write("train", tensorboard_private.picture(step, name, image))

    def flush(self) -> None:
        """Writes everything out; the file is replaced at once.

        Raises:
          OSError: where `scalars.jsonl` cannot be written.
        """
        if not self._is_writer:
            return
        atomic_file.write_text(self._path, "".join(line + "\n" for line in self._lines))
        self._tensorboard.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Flushes and releases the files.

        Raises:
          OSError: where `scalars.jsonl` cannot be written.
        """
        if self._is_writer:
            self.flush()
            self._tensorboard.close()


def _kept_lines(path: epath.Path, last_steps: Mapping[str, int]) -> list[str]:
    """Returns the lines of `scalars.jsonl` up to each kind's last step."""
    if not path.exists():
        return []
    kept, num_broken = [], 0
    for line in path.read_bytes().decode(errors="replace").splitlines():
        try:
            record = json.loads(line)
            is_kept = record["step"] <= last_steps[record["kind"]]
        except (ValueError, TypeError, KeyError):
            num_broken += 1
            continue
        if is_kept:
            kept.append(line)
    if num_broken:
        log.warning("%s: left out what cannot be read, lines: %d", path, num_broken)
    return kept
