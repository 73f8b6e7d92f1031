"""What a run starts from: its newest checkpoint, or weights that are made or read anew."""

import contextlib
import dataclasses
import functools
import json
import logging
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import optax
from etils import epath

from dmlcsr_jax import atomic_file, models
from dmlcsr_jax import config as config_lib
from dmlcsr_jax.checkpoints.model import abstract_variables, newest_in
from dmlcsr_jax.checkpoints.run import RunCheckpoints
from dmlcsr_jax.configs.default import RENAMED
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.errors import UserError, differences
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.training.state import TrainState
from dmlcsr_jax.training.warm_start import initial_weights

log = logging.getLogger(__name__)

# Fields that may change when a run is resumed: they leave its parameters as they are.
_FREE_ON_RESUME = (
    "data.root",
    "data.eval_split",
    "data.num_workers",
    "data.synthetic.eval_examples",
    "eval",
    "checkpoint",
    "log",
    "mesh",
    "model.pretrained",
    "model.init_from",
    "model.license",
)


@dataclasses.dataclass
class Progress:
    """How far a run has come, on the host.

    Attributes:
      step: optimisation steps made, as in the state.
      cycle: students in the teacher, as in the state.
      evaluated_step: last step at which the student was evaluated.
      best_mean_f1: highest mean F1 of a student or teacher so far; -1: none was evaluated.
    """

    step: int = 0
    cycle: int = 0
    evaluated_step: int = 0
    best_mean_f1: float = -1.0

    @property
    def counts(self) -> tuple[int, int, int]:
        """Step, cycle and evaluated step, as `Timeline` takes them."""
        return self.step, self.cycle, self.evaluated_step


def start_or_resume(
    config: ml_collections.ConfigDict,
    workdir: epath.Path,
    *,
    model,
    metadata: Metadata,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    about: Mapping[str, Any],
) -> tuple[TrainState, Progress, RunCheckpoints]:
    """Restores the newest complete checkpoint of the workdir, bit for bit, or begins a run.

    A new run has random weights; in their place those of `model.init_from` that fit; in the encoder
    those of `model.pretrained`. No folder is made before all are read.

    Args:
      config: the run's.
      workdir: the run's folder.
      model: the network.
      metadata: its description.
      optimizer: of its parameters.
      mesh: the devices, on which the state is born or restored in the shardings that it keeps.
      about: what decides the run's result, see `decides_result`.

    Returns:
      The state on the devices, the progress, and the checkpoints, which the caller closes.

    Raises:
      UserError: where the checkpoint is damaged or of another config or other data, weights cannot
        be read, or the workdir holds models of an earlier run.
    """
    create_state = functools.partial(
        TrainState.create, optimizer=optimizer, averaged=config.optim.ema_decay > 0
    )
    abstract_state = jax.eval_shape(create_state, abstract_variables(metadata, config.model.dtype))
    shardings = sharding.state_sharding(abstract_state, mesh, fsdp=config.mesh.fsdp)
    if newest_in(workdir / "checkpoints"):
        checkpoints = RunCheckpoints(workdir, keep=config.checkpoint.keep)
        try:
            abstract_state = sharding.with_shardings(abstract_state, shardings)
            return *_restore(checkpoints, workdir, abstract_state, about), checkpoints
        except BaseException:
            with contextlib.suppress(Exception):
                checkpoints.close()
            raise
    clear_or_refuse(workdir)
    variables = models.initial_variables(model, config.seed, config.data.image_size)
    variables = initial_weights(config, metadata, variables)
    state = jax.jit(create_state, out_shardings=shardings)(variables)
    atomic_file.make_folder(workdir)
    return state, Progress(), RunCheckpoints(workdir, keep=config.checkpoint.keep)


def decides_result(
    config: ml_collections.ConfigDict, label_set: LabelSet, num_examples: int
) -> dict[str, Any]:
    """Returns what is saved with a run and must be the same when it is resumed.

    Args:
      config: the run's.
      label_set: as of `fixed_fields`.
      num_examples: training examples of all sources.
    """
    return {"config": fixed_fields(config, label_set), "data": {"num_examples": num_examples}}


def _restore(
    checkpoints: RunCheckpoints,
    workdir: epath.Path,
    abstract_state: TrainState,
    about: Mapping[str, Any],
) -> tuple[TrainState, Progress]:
    """Returns the state and progress of the newest checkpoint, if it is of this run."""
    path = workdir / "checkpoints" / str(checkpoints.latest_step())
    marks = checkpoints.read_progress()
    require_marks(marks, path)
    require_same(marks.pop("config"), about["config"], path)
    written, here = (data["num_examples"] for data in (marks.pop("data"), about["data"]))
    if written != here:
        raise UserError(
            f"the checkpoint {path} was written with {written} training examples, there are "
            f"{here} now; use the same data or another --workdir."
        )
    state = TrainState.from_checkpoint(
        *checkpoints.restore_run(abstract_state.eval_variables, abstract_state.train_items())
    )
    log.info("resumed from %s", path)
    return state, Progress(int(state.step), int(state.cycle), **marks)


def clear_or_refuse(workdir: epath.Path) -> None:
    """Sees to it that a run that begins anew ships and keeps no model but its own.

    A run killed as it replaced its first checkpoint leaves an unfinished one, and is made again
    from its seed: its best model and teachers are removed. Where `checkpoints` is empty somebody
    has emptied it, and what remains may be all there is of a finished run.

    Args:
      workdir: a run's folder without a complete checkpoint of the run.

    Raises:
      UserError: names what remains of an earlier run.
    """
    kept = [name for name in ("best", "teachers") if newest_in(workdir / name)]
    checkpoints = workdir / "checkpoints"
    if checkpoints.is_dir() and any(checkpoints.iterdir()):
        for name in kept:
            if jax.process_index() == 0:
                (workdir / name).rmtree()
        return
    if (workdir / "metrics.json").exists():
        kept.append("metrics.json")
    if kept:
        raise UserError(
            f"{workdir} holds no checkpoint to go on from, but {' and '.join(kept)} of an earlier "
            "run; move or remove them, or use another --workdir."
        )


def require_marks(marks: Any, path: epath.PathLike) -> None:
    """Checks what a checkpoint's `progress` holds, which may come from anywhere.

    Args:
      marks: what `RunCheckpoints.read_progress` returned.
      path: the checkpoint's, for the message.

    Raises:
      UserError: naming the field that is missing, unknown or of another type.
    """
    kinds = {"config": dict, "data": dict, "evaluated_step": int, "best_mean_f1": (int, float)}
    named = marks if isinstance(marks, dict) else {}
    wrong = [name for name, kind in kinds.items() if not isinstance(named.get(name), kind)]
    wrong += sorted(named.keys() - kinds.keys())
    if "data" not in wrong and not isinstance(named["data"].get("num_examples"), int):
        wrong.append("data")
    if wrong:
        raise UserError(
            f"the checkpoint {path} says in `progress` what no run writes ({', '.join(wrong)}); "
            "use another --workdir."
        )


def fixed_fields(config: ml_collections.ConfigDict, label_set: LabelSet) -> dict[str, Any]:
    """Returns the flat fields that decide a run's parameters, as JSON would give them back.

    Args:
      config: the run's config.
      label_set: the one that `data.label_set` names: the file that it may name can change.
    """
    flat = {
        name: value
        for name, value in config_lib.flatten(config).items()
        if not any(name == free or name.startswith(free + ".") for free in _FREE_ON_RESUME)
        and not (name.startswith("data.sources.") and name.endswith(".root"))
    }
    flat |= {f"label_set.{name}": value for name, value in label_set.to_json().items()}
    return json.loads(json.dumps(flat))


def require_same(saved: dict[str, Any], fixed: dict[str, Any], path) -> None:
    """Refuses to resume a checkpoint that another config wrote.

    Args:
      saved: what `fixed_fields` returned when the checkpoint was written.
      fixed: what it returns now.
      path: the checkpoint, for the message.

    Raises:
      UserError: names every field that differs, with both values.
    """
    if differing := differences(with_names_of_today(saved), fixed):
        raise UserError(
            f"the checkpoint {path} was written by another config: {differing}; use that config "
            "or another --workdir."
        )


def with_names_of_today(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns flat fields that an earlier version may have written, renamed as it is now."""
    return {RENAMED.get(name, name): value for name, value in fields.items()}
