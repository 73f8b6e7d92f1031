"""The record of a run: scalars and panels, without repeated steps after a restart."""

import json
import os
import time

import jax
import numpy as np
import tensorboardX
from etils import epath

from dmlcsr_jax import atomic_file

_FLUSH_SECONDS = 30


class RunLog:
    """Writes `scalars.jsonl` and TensorBoard events; silent in every process but the first.

    Each line of `scalars.jsonl` is `{"step", "kind", name: value, ...}`, kind "train", "student"
    or "teacher".
    """

    def __init__(self, workdir: epath.PathLike, *, step: int, evaluated_step: int):
        """Opens the record, and drops what a run that died had written beyond its checkpoint.

        Args:
          workdir: the run's folder.
          step: optimisation steps made so far.
          evaluated_step: the last step after which evaluations are done.
        """
        self._is_writer = jax.process_index() == 0
        if not self._is_writer:
            return
        self._path = epath.Path(workdir) / "scalars.jsonl"
        self._lines = []
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                record = json.loads(line)
                last = step if record["kind"] == "train" else evaluated_step
                if record["step"] <= last:
                    self._lines.append(line)
        self._writer = tensorboardX.SummaryWriter(
            os.fspath(epath.Path(workdir) / "tensorboard"), purge_step=step + 1 if step else None
        )
        self._flushed_at = time.monotonic()

    def scalars(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Records numbers of one step; not-a-number becomes null."""
        if not self._is_writer:
            return
        values = {name: float(value) for name, value in values.items()}
        record = {"step": step, "kind": kind} | {
            name: value if np.isfinite(value) else None for name, value in values.items()
        }
        self._lines.append(json.dumps(record))
        for name, value in values.items():
            if np.isfinite(value):
                self._writer.add_scalar(f"{kind}/{name}", value, step)
        if time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()

    def panel(self, step: int, name: str, image: np.ndarray) -> None:
        """Records a picture, uint8 `[H, W, 3]` RGB."""
        if self._is_writer:
            self._writer.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        """Writes everything out; the file is replaced whole."""
        if not self._is_writer:
            return
        atomic_file.write_text(self._path, "".join(line + "\n" for line in self._lines))
        self._writer.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Flushes and releases the files."""
        if self._is_writer:
            self.flush()
            self._writer.close()
