"""What a run writes as it goes: its record, its checkpoints, the best model and the teachers."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from dmlcsr_jax.checkpoints.run import RunCheckpoints, cannot_save
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.evaluation import report
from dmlcsr_jax.evaluation.evaluate import EvaluationResult
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.training.resume import Progress
from dmlcsr_jax.training.run_log import RunLog
from dmlcsr_jax.training.state import TrainState

log = logging.getLogger(__name__)


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
    saved: Progress | None = dataclasses.field(init=False)

    def __post_init__(self):
        is_saved = self.checkpoints.latest_step() is not None
        self.saved = dataclasses.replace(self.progress) if is_saved else None

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
            step, self.metadata, state.eval_variables, state.train_items(), marks | self.about
        )

    def evaluation(self, kind: str, variables: dict[str, Any], result: EvaluationResult) -> None:
        """Records an evaluation at the run's step, and saves the model if it is the best so far.

        Args:
          kind: "student" or "teacher".
          variables: `{"params", "batch_stats"}` of the model.
          result: what was found.
        """
        if problem := result.problem:
            log.warning("%s", problem)
        metrics = result.metrics
        step, mean_f1 = self.progress.step, metrics["mean_f1"]
        self.record.scalars(step, kind, report.scalar_metrics(metrics))
        log.info("step %d, %s: mean F1 %.4f, mIoU %.4f", step, kind, mean_f1, metrics["miou"])
        if mean_f1 > self.progress.best_mean_f1:
            self.progress.best_mean_f1 = mean_f1
            self.checkpoints.save_best(step, self.metadata, variables)

    def teacher(self, variables: dict[str, Any], result: EvaluationResult) -> None:
        """Records and saves the teacher of the run's cycle; arguments as of `evaluation`."""
        self.evaluation("teacher", variables, result)
        self.checkpoints.save_teacher(self.progress.cycle, self.metadata, variables)

    def panel(self, images: np.ndarray, maps: Mapping[str, jax.Array], num_images: int) -> None:
        """Records what the network sees and says.

        Args:
          images: uint8 `[b, S, S, 3]` RGB, this process's rows of a batch.
          maps: as `training.step.panel_step` returns them for the batch.
          num_images: how many to show.
        """
        panel = report.training_panel(
            images[:num_images],
            {name: sharding.local_rows(rows)[:num_images] for name, rows in maps.items()},
            self.metadata.label_set,
        )
        self.record.panel(self.progress.step, "panels", panel)
