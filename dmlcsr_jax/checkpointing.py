"""Orbax checkpoints: of a run, to go on with it; of a model, to evaluate, ship or fine-tune it.

Every checkpoint is a folder with the items `model` (`params` and `batch_stats`) and `metadata`;
those of a run have also `train` (optimiser, teacher, step, cycle) and `progress`, so that each
of them can be evaluated as it is. In a workdir:

    checkpoints/STEP   the run, the newest few
    best/STEP          the model with the best mean F1 so far
    teachers/CYCLE     the teacher made at the end of each cycle
"""

import os
import re
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from dmlcsr_jax import peers, sharding
from dmlcsr_jax.errors import NO_ROOM, UserError
from dmlcsr_jax.inference import build_model
from dmlcsr_jax.metadata import Metadata
from dmlcsr_jax.train_state import TrainState

_MANY = 10**6
# How Orbax tells an unfinished checkpoint: by its name, in a bucket by a file that it lacks.
_UNFINISHED_SUFFIX = ".orbax-checkpoint-tmp"
_COMMIT_FILE = "commit_success.txt"


def abstract_variables(metadata: Metadata, dtype: str = "float32") -> dict[str, Any]:
    """Returns `{"params", "batch_stats"}` of `jax.ShapeDtypeStruct` that `metadata` implies."""
    model = build_model(metadata, dtype)
    size = metadata.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda images: model.init(jax.random.key(0), images, train=True), images
    )
    if not metadata.edge_branch:
        variables = {
            name: {module: leaves for module, leaves in tree.items() if module != "edge"}
            for name, tree in variables.items()
        }
    return {"params": variables["params"], "batch_stats": variables["batch_stats"]}


def leaf_name(path) -> str:
    """Returns the name of a tensor, as `params/encoder/...`, from its path in the tree."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree) -> dict[str, Any]:
    """Returns the tensors of a tree by name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {leaf_name(path): leaf for path, leaf in leaves}


def require_same_shapes(found, expected, name) -> None:
    """Refuses a tree whose tensors are not those expected.

    Args:
      found: tree of things with a `shape`.
      expected: the same.
      name: file or folder that `found` is from, for the message.

    Raises:
      UserError: names the first tensor that is missing, extra or of another shape.
    """
    found, expected = named_leaves(found), named_leaves(expected)
    for key in expected:
        if key not in found:
            raise UserError(
                f"{name} lacks the tensor {key} of shape {tuple(expected[key].shape)}: "
                "it is of another architecture."
            )
        if tuple(found[key].shape) != tuple(expected[key].shape):
            raise UserError(
                f"{name}: the tensor {key} has shape {tuple(found[key].shape)} where "
                f"{tuple(expected[key].shape)} is needed: it is of another architecture or class "
                "count."
            )
    if extra := sorted(set(found) - set(expected)):
        raise UserError(
            f"{name} has the tensor {extra[0]} of shape {tuple(found[extra[0]].shape)}, "
            "which the network does not: it is of another architecture."
        )


def _model_items(metadata: Metadata, variables) -> dict[str, Any]:
    return {
        "model": ocp.args.StandardSave(
            {"params": variables["params"], "batch_stats": variables["batch_stats"]}
        ),
        "metadata": ocp.args.JsonSave(metadata.to_json()),
    }


def save_model(path: epath.PathLike, metadata: Metadata, params, batch_stats) -> None:
    """Writes a model's checkpoint, whole or not at all.

    Args:
      path: the folder to make; it must not exist.
      metadata: stored beside the parameters.
      params: tree of arrays.
      batch_stats: tree of arrays.

    Raises:
      UserError: where `path` exists or cannot be written, or the trees do not fit `metadata`.
    """
    path = epath.Path(path)
    variables = {"params": params, "batch_stats": batch_stats}
    require_same_shapes(variables, abstract_variables(metadata), path)
    if path.exists():
        raise UserError(f"{path} exists already; name a new folder or remove it.")
    items = ocp.args.Composite(**_model_items(metadata, variables))
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(_absolute(path), args=items)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from error


def _absolute(path: epath.PathLike) -> epath.Path:
    path = epath.Path(path)
    return path if "://" in os.fspath(path) else path.absolute()


def _newest(folder: epath.Path) -> epath.Path | None:
    """Returns the newest whole checkpoint `folder/N`, or None."""
    if not folder.is_dir():
        return None
    steps = ocp.utils.checkpoint_steps(folder)
    return folder / str(max(steps)) if steps else None


def resolve(checkpoint: str, workdir: epath.PathLike | None = None) -> epath.Path:
    """Returns the folder of a model's checkpoint.

    Args:
      checkpoint: "latest", "best", "teacher" (the last), "teacher:K" (of cycle K, from 1), or the
        path of a checkpoint, of a folder of numbered checkpoints, or of a workdir (its last
        teacher, else its best, else its latest).
      workdir: where the names are looked up; a path needs none.

    Raises:
      UserError: where there is no such checkpoint.
    """
    if teacher := re.fullmatch(r"teacher(?::(\d+))?", checkpoint):
        folder = "teachers"
    else:
        folder = {"latest": "checkpoints", "best": "best"}.get(checkpoint)
    if folder:
        if workdir is None:
            raise UserError(f"checkpoint {checkpoint!r} needs a workdir to look it up in.")
        folder = _absolute(workdir) / folder
        path = _newest(folder)
        if path and teacher and teacher[1]:
            path = folder / str(int(teacher[1]))
        if path is None or not (path / "metadata").exists():
            raise UserError(f"there is no checkpoint {checkpoint!r} in {workdir}; train it first.")
        return path
    path = _absolute(checkpoint)
    if not path.is_dir():
        raise UserError(f"{checkpoint} is not a folder; name a checkpoint or a workdir.")
    candidates = [path, *(_newest(path / name) for name in ("teachers", "best", "checkpoints"))]
    for candidate in [*candidates, _newest(path)]:
        if candidate and (candidate / "metadata").exists():
            return candidate
    raise UserError(f"{checkpoint} holds no whole checkpoint.")


def load_model(
    checkpoint: epath.PathLike, workdir: epath.PathLike | None = None
) -> tuple[Metadata, dict[str, Any]]:
    """Restores a model, replicated over all devices.

    Args:
      checkpoint: as `resolve` takes it.
      workdir: as `resolve` takes it.

    Returns:
      The metadata, and `{"params", "batch_stats"}` of float arrays.

    Raises:
      UserError: where there is no such checkpoint, or it is damaged or of another architecture.
    """
    path = resolve(os.fspath(checkpoint), workdir)
    mesh = sharding.make_mesh()
    try:
        with ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(
                model=ocp.StandardCheckpointHandler(), metadata=ocp.JsonCheckpointHandler()
            )
        ) as checkpointer:
            saved = checkpointer.metadata(path).item_metadata["model"].tree
            restored = checkpointer.restore(
                path, args=ocp.args.Composite(metadata=ocp.args.JsonRestore())
            )
            metadata = Metadata.from_json(restored["metadata"])
            require_same_shapes(saved, abstract_variables(metadata), path)
            target = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=sharding.replicated(mesh)
                ),
                saved,
            )
            variables = checkpointer.restore(
                path, args=ocp.args.Composite(model=ocp.args.StandardRestore(target))
            )["model"]
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the checkpoint {path} cannot be read ({error}); use another.") from error
    return metadata, variables


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
    newest = _newest(workdir / "checkpoints")
    whole = f"that of step {newest.name} is the newest" if newest else "there is none"
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
                peers.fail(cannot_save(self.directory.parent, error))
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

    def save_run(self, state: TrainState, metadata: Metadata, progress: dict[str, Any]) -> None:
        """Saves the run; a checkpoint of the same step is replaced.

        Args:
          state: the whole state.
          metadata: stored beside it.
          progress: JSON-serialisable, given back by `restore_run`.
        """
        step = int(state.step)
        rest = {
            "step": state.step,
            "opt_state": state.opt_state,
            "teacher": state.teacher,
            "cycle": state.cycle,
        }
        items = _model_items(metadata, state.student) | {
            "train": ocp.args.StandardSave(rest),
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

    def restore_run(self, abstract_state: TrainState, state_sharding) -> TrainState:
        """Restores the newest checkpoint of the run, bit for bit.

        Args:
          abstract_state: the state's shapes and dtypes.
          state_sharding: tree of shardings to place it in, whatever it was saved from.

        Raises:
          UserError: where the checkpoint is damaged.
        """
        step = self.latest_step()
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            abstract_state,
            state_sharding,
        )
        rest = {
            "step": target.step,
            "opt_state": target.opt_state,
            "teacher": target.teacher,
            "cycle": target.cycle,
        }
        restored = self._restore(
            step,
            model=ocp.args.StandardRestore(target.student),
            train=ocp.args.StandardRestore(rest),
        )
        model, train = restored["model"], restored["train"]
        return TrainState(
            step=train["step"],
            params=model["params"],
            batch_stats=model["batch_stats"],
            opt_state=train["opt_state"],
            teacher_params=train["teacher"]["params"],
            teacher_batch_stats=train["teacher"]["batch_stats"],
            cycle=train["cycle"],
        )

    def close(self) -> None:
        """Waits for all saves and releases the managers."""
        self.wait()
        for manager in (self._run, self._best, self._teachers):
            manager.close()
