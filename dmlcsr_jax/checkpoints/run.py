"""The checkpoints of one run's workdir, written in the background."""

import os
import re
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.checkpoints.model import _absolute, _model_items, newest
from dmlcsr_jax.distributed import watchdog
from dmlcsr_jax.errors import NO_ROOM, UserError

_MANY = 10**6


# How Orbax tells an unfinished checkpoint: by its name, in a bucket by a file that it lacks.
_UNFINISHED_SUFFIX = ".orbax-checkpoint-tmp"


_COMMIT_FILE = "commit_success.txt"


def _withdraw(path: epath.Path) -> None:
    """Makes a whole checkpoint an unfinished one at a stroke, as which no reader takes it.

    Orbax removes its files one by one; what a kill left of them would still look whole.
    """
    if "://" in os.fspath(path):
        (path / _COMMIT_FILE).unlink(missing_ok=True)
    else:
        path.rename(path.with_name(path.name + _UNFINISHED_SUFFIX))


def cannot_save(workdir: epath.Path, error: Exception) -> Exception:
    """Returns what to raise where a save in `workdir` has failed with `error`.

    It is a `UserError` if that is the storage's fault: it names the newest whole checkpoint.
    """
    causes = (error, error.__cause__, error.__context__)
    reason = next((cause for cause in causes if isinstance(cause, OSError)), None)
    text, mend = str(error).splitlines()[0], "mend that"
    # TensorStore tells a full disk in words alone.
    if re.search("no space|quota|RESOURCE_EXHAUSTED", str(error), re.I):
        text, mend = "No space left on device", "make room"
    elif reason is None:
        return error
    elif reason.errno in NO_ROOM:
        text, mend = reason.strerror, "make room"
    last = newest(workdir / "checkpoints")
    whole = f"that of step {last.name} is the newest" if last else "there is none"
    return UserError(
        f"cannot save a checkpoint in {workdir}: {text}; {whole} that is whole: {mend} and start "
        "again."
    )


class _Manager(ocp.CheckpointManager):
    """Saves when it is told to, and where that fails leaves no other process waiting."""

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
            # The others are at a barrier of this save, where Orbax lets them wait for 20 minutes.
            if jax.process_count() > 1:
                watchdog.fail(cannot_save(self.directory.parent, error))
            raise


class RunCheckpoints:
    """The checkpoints of one workdir, written in the background."""

    def __init__(self, workdir: epath.PathLike, *, keep: int):
        """Opens or makes the folders.

        Args:
          workdir: the run's folder.
          keep: how many of the newest checkpoints of the run stay.
        """
        self._workdir = _absolute(workdir)
        self._run = self._manager("checkpoints", keep)
        self._best = self._manager("best", 1)
        self._teachers = self._manager("teachers", _MANY)

    def _manager(self, name: str, keep: int) -> _Manager:
        return _Manager(
            self._workdir / name,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                cleanup_tmp_directories=True,
                create=True,
                # Two managers that save at once would meet at each other's barriers.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    barrier_sync_key_prefix=name
                ),
            ),
        )

    def latest_step(self) -> int | None:
        """Returns the step of the newest whole checkpoint of the run, or None."""
        return self._run.latest_step()

    def save_run(
        self,
        step: int,
        metadata: Metadata,
        variables,
        train_items: dict[str, Any],
        progress: dict[str, Any],
    ) -> None:
        """Saves the run; a checkpoint of the same step is replaced.

        Args:
          step: the checkpoint's number.
          metadata: stored beside the model.
          variables: the model, `{"params", "batch_stats"}`.
          train_items: trees of arrays by name: all else that `restore_run` gives back.
          progress: JSON-serialisable, given back by `read_progress`.
        """
        items = _model_items(metadata, variables) | {
            "train": ocp.args.StandardSave(train_items),
            "progress": ocp.args.JsonSave(progress),
        }
        self._save(self._run, step, items)

    def save_best(self, step: int, metadata: Metadata, variables) -> None:
        """Saves the model that has become the best; the one before it is removed afterwards."""
        self._save(self._best, step, _model_items(metadata, variables))

    def save_teacher(self, cycle: int, metadata: Metadata, variables) -> None:
        """Saves the teacher made at the end of cycle number `cycle`, from 1."""
        self._save(self._teachers, cycle, _model_items(metadata, variables))

    def _save(self, manager: ocp.CheckpointManager, step: int, items: dict[str, Any]) -> None:
        try:
            manager.wait_until_finished()
            if step in manager.all_steps():
                if jax.process_index() == 0:
                    _withdraw(manager.directory / str(step))
                manager.delete(step)
            manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise cannot_save(self._workdir, error) from error

    def wait(self) -> None:
        """Waits until all that was saved is whole on disk.

        Raises:
          UserError: where the storage has failed, or has no room.
        """
        for manager in (self._run, self._best, self._teachers):
            try:
                manager.wait_until_finished()
            except Exception as error:
                raise cannot_save(self._workdir, error) from error

    def read_progress(self) -> dict[str, Any] | None:
        """Returns `progress` of the newest checkpoint of the run, or None without one.

        Raises:
          UserError: where the checkpoint is damaged.
        """
        step = self.latest_step()
        if step is None:
            return None
        return self._restore(step, progress=ocp.args.JsonRestore())["progress"]

    def _restore(self, step: int, **items):
        try:
            return self._run.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:
            raise UserError(
                f"the checkpoint {self._workdir / 'checkpoints' / str(step)} cannot be restored "
                f"({str(error).splitlines()[0]}); remove it to go on from the one before it."
            ) from error

    def restore_run(self, abstract_variables, abstract_train_items) -> tuple[Any, Any]:
        """Restores the newest checkpoint of the run, bit for bit.

        Args:
          abstract_variables: tree of `jax.ShapeDtypeStruct` with the shardings to place the model
            in, whatever it was saved from.
          abstract_train_items: the same of what was saved beside it.

        Returns:
          The variables and the train items that `save_run` took.

        Raises:
          UserError: where the checkpoint is damaged.
        """
        restored = self._restore(
            self.latest_step(),
            model=ocp.args.StandardRestore(abstract_variables),
            train=ocp.args.StandardRestore(abstract_train_items),
        )
        return restored["model"], restored["train"]

    def close(self) -> None:
        """Waits for all saves and releases the managers."""
        self.wait()
        for manager in (self._run, self._best, self._teachers):
            manager.close()
