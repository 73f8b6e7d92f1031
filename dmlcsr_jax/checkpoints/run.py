"""The checkpoints of one run's workdir, written in the background."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from dmlcsr_jax.atomic_file import make_folder
from dmlcsr_jax.checkpoints.damage import damage_as_user_error, storage_failure
from dmlcsr_jax.checkpoints.model import (
    DIGESTS,
    absolute,
    checkpoint_items,
    digest_items,
    newest_in,
    require_undamaged,
)
from dmlcsr_jax.checkpoints.orbax_private import Manager, quiet_background_threads, withdraw
from dmlcsr_jax.distributed import watchdog
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.metadata import Metadata


def cannot_save(workdir: epath.Path, error: Exception) -> Exception:
    """Returns what to raise where a save in `workdir` has failed with `error`.

    It is a `UserError` if that is the storage's fault: it names the newest complete checkpoint.
    """
    if (failure := storage_failure(error)) is None:
        return error
    text, remedy = failure
    newest = newest_in(workdir / "checkpoints")
    complete = f"that of step {newest.name} is the newest" if newest else "there is none"
    return UserError(
        f"cannot save a checkpoint in {workdir}: {text}; {complete} that is complete: {remedy} and "
        "start again."
    )


class RunCheckpoints:
    """The checkpoints of one workdir, written in the background."""

    def __init__(self, workdir: epath.PathLike, *, keep: int):
        """Opens or makes the folders.

        Args:
          workdir: the run's folder.
          keep: how many of the newest checkpoints of the run stay.

        Raises:
          UserError: where a folder cannot be made.
        """
        quiet_background_threads()
        self._workdir = absolute(workdir)
        self._run = self._manager("checkpoints", keep)
        self._best = self._manager("best", 1)
        self._teachers = self._manager("teachers", None)

    def _manager(self, name: str, keep: int | None) -> Manager:
        make_folder(self._workdir / name)
        return Manager(
            self._workdir / name,
            ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                cleanup_tmp_directories=True,
                create=True,
                # Two managers that save at once would wait at each other's barriers.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    barrier_sync_key_prefix=name
                ),
            ),
            self._tell_others,
        )

    def _tell_others(self, error: Exception) -> None:
        # The others are at a barrier of this save, where Orbax lets them wait for 20 minutes.
        if jax.process_count() > 1:
            watchdog.fail(cannot_save(self._workdir, error))

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint of the run, or None."""
        return self._run.latest_step()

    def save_run(
        self,
        step: int,
        metadata: Metadata,
        variables: Mapping[str, Any],
        train_items: Mapping[str, Any],
        progress: Mapping[str, Any],
    ) -> None:
        """Saves the run; a checkpoint of the same step is replaced.

        Args:
          step: number of the checkpoint.
          metadata: stored beside it.
          variables: `{"params", "batch_stats"}` of the student.
          train_items: tree of arrays by name: what training needs besides.
          progress: JSON-serialisable, given back by `read_progress`.

        Raises:
          UserError: where the storage has failed, or has no room.
        """
        self._save(self._run, step, checkpoint_items(metadata, variables, train_items, progress))

    def save_best(self, step: int, metadata: Metadata, variables) -> None:
        """Saves the model that has become the best; the one before it is removed afterwards."""
        self._save(self._best, step, checkpoint_items(metadata, variables))

    def save_teacher(self, cycle: int, metadata: Metadata, variables) -> None:
        """Saves the teacher made at the end of cycle number `cycle`, from 1."""
        self._save(self._teachers, cycle, checkpoint_items(metadata, variables))

    def _save(self, manager: Manager, step: int, items: dict[str, Any]) -> None:
        try:
            manager.wait_until_finished()
            if step in manager.all_steps():
                if jax.process_index() == 0:
                    withdraw(manager.directory / str(step))
                manager.delete(step)
            manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:
            raise cannot_save(self._workdir, error) from error

    def wait(self) -> None:
        """Waits until all that was saved is complete on disk.

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
        with self._naming(step) as path:
            # What has no check sums is told of where the tensors are read.
            sums = {DIGESTS: ocp.args.JsonRestore()} if (path / DIGESTS).exists() else {}
            restored = self._restore(step, progress=ocp.args.JsonRestore(), **sums)
            if sums:
                require_undamaged({name: restored[name] for name in ("progress", DIGESTS)})
            return restored["progress"]

    def _restore(self, step: int, **items):
        return self._run.restore(step, args=ocp.args.Composite(**items))

    @contextlib.contextmanager
    def _naming(self, step: int) -> Iterator[epath.Path]:
        path = self._workdir / "checkpoints" / str(step)
        with damage_as_user_error(path, "remove it to go on from the one before it"):
            yield path

    def restore_run(self, abstract_variables, abstract_train_items) -> tuple[Any, Any]:
        """Restores the newest checkpoint of the run, bit for bit.

        Args:
          abstract_variables: `{"params", "batch_stats"}` of `jax.ShapeDtypeStruct`, each with the
            sharding to place it in, whatever it was saved from.
          abstract_train_items: the same of what `save_run` was given as `train_items`.

        Returns:
          Variables and train items, as `save_run` was given them.

        Raises:
          UserError: where the checkpoint is damaged.
        """
        step = self.latest_step()
        with self._naming(step) as path:
            sums = digest_items(path)
            restored = self._restore(
                step,
                model=ocp.args.StandardRestore(abstract_variables),
                train=ocp.args.StandardRestore(abstract_train_items),
                **sums,
            )
            if sums:
                require_undamaged({name: restored[name] for name in ("model", "train", DIGESTS)})
            return restored["model"], restored["train"]

    def close(self) -> None:
        """Waits for all saves and releases the managers."""
        self.wait()
        for manager in (self._run, self._best, self._teachers):
            manager.close()
