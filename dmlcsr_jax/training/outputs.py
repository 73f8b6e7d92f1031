"""What a run writes as it goes: its record, its checkpoints, the best model and the teachers."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from etils import epath

from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.checkpoints.run import RunCheckpoints, cannot_save
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation import report
from dmlcsr_jax.training.run_log import RunLog
from dmlcsr_jax.training.state import TrainState

log = logging.getLogger(__name__)


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


@dataclasses.dataclass
class RunOutputs:
    """Writes a run down.

    Attributes:
      workdir: the run's folder.
      checkpoints: of the run.
      record: of the run.
      metadata: stored with each model.
      about: JSON-serialisable, stored with each checkpoint of the run: what decides its result.
      progress: of the run, changed by whoever trains it.
      saved: the progress of the newest checkpoint; None without one.
    """

    workdir: epath.Path
    checkpoints: RunCheckpoints
    record: RunLog
    metadata: Metadata
    about: Mapping[str, Any]
    progress: Progress
    saved: Progress | None

    def save(self, state: TrainState) -> None:
        """Saves the run, unless it is saved already; the record is written out with it.

        Raises:
          UserError: where the storage fails.
        """
        if self.saved == self.progress:
            return
        self.saved = dataclasses.replace(self.progress)
        self.checkpoints.wait()
        # Before the checkpoint: what it has more than that is left out on resuming.
        try:
            self.record.flush()
        except OSError as error:
            raise cannot_save(self.workdir, error) from error
        marks = dataclasses.asdict(self.progress)
        step = marks.pop("step")
        del marks["cycle"]  # It is in the state.
        self.checkpoints.save_run(
            step, self.metadata, state.student, state.train_items(), marks | self.about
        )

    def evaluation(self, kind: str, variables: dict[str, Any], metrics: dict[str, Any]) -> None:
        """Records an evaluation at the run's step, and saves the model if it is the best so far.

        Args:
          kind: "student" or "teacher".
          variables: `{"params", "batch_stats"}` of the model.
          metrics: as `evaluation.metrics.summarize` returns them.
        """
        step, mean_f1 = self.progress.step, metrics["mean_f1"]
        self.record.scalars(step, kind, report.scalar_metrics(metrics))
        log.info("step %d, %s: mean F1 %.4f, mIoU %.4f", step, kind, mean_f1, metrics["miou"])
        if mean_f1 > self.progress.best_mean_f1:
            self.progress.best_mean_f1 = mean_f1
            self.checkpoints.save_best(step, self.metadata, variables)

    def teacher(self, variables: dict[str, Any], metrics: dict[str, Any]) -> None:
        """Records and saves the teacher of the run's cycle; arguments as of `evaluation`."""
        self.evaluation("teacher", variables, metrics)
        self.checkpoints.save_teacher(self.progress.cycle, self.metadata, variables)
