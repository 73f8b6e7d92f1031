"""What is due at a step of a run: plain arithmetic, which reads and changes nothing."""

import dataclasses

import ml_collections


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When a run evaluates, ends a cycle, saves and shows panels.

    A step is the number of optimisation steps made, so that what is due "at" a step comes after it.

    Attributes:
      steps_per_epoch: 1 or more.
      num_epochs: epochs of the run.
      start_epoch: the epoch, counted from 0, in which the first cycle begins; equal to
        `num_epochs`: there is no cycle.
      cycle_epochs: epochs of a cycle.
      evaluate_epochs: the student is evaluated at the end of every so many epochs, and of the run.
      save_epochs: the run is saved at the end of every so many epochs.
      panel_epochs: panels are drawn at the end of every so many epochs.
    """

    steps_per_epoch: int
    num_epochs: int
    start_epoch: int
    cycle_epochs: int
    evaluate_epochs: int
    save_epochs: int
    panel_epochs: int

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict, steps_per_epoch: int) -> "Timeline":
        """Returns the timeline of a config that `config.validate` has passed."""
        return cls(
            steps_per_epoch=steps_per_epoch,
            num_epochs=config.train.num_epochs,
            start_epoch=config.csr.start_epoch,
            cycle_epochs=config.csr.cycle_epochs,
            evaluate_epochs=config.eval.every_epochs,
            save_epochs=config.checkpoint.every_epochs,
            panel_epochs=config.log.panels_every_epochs,
        )

    @property
    def num_steps(self) -> int:
        """Steps of the run."""
        return self.num_epochs * self.steps_per_epoch

    def _is_end_of_every(self, epochs: int, step: int) -> bool:
        return step % (epochs * self.steps_per_epoch) == 0

    def cycle_end(self, cycle: int) -> int:
        """Returns the step at which cycle number `cycle`, from 0, ends."""
        return (self.start_epoch + (cycle + 1) * self.cycle_epochs) * self.steps_per_epoch

    def teacher_step(self, cycle: int) -> int:
        """Returns the step at which the teacher of `cycle` students was made; 0: there is none."""
        return self.cycle_end(cycle - 1) if cycle else 0

    def evaluation_due(self, step: int, evaluated_step: int) -> bool:
        """Returns whether the student, last evaluated at `evaluated_step`, is to be evaluated."""
        due = self._is_end_of_every(self.evaluate_epochs, step) or step == self.num_steps
        return due and step > evaluated_step

    def cycle_end_due(self, step: int, cycle: int) -> bool:
        """Returns whether cycle number `cycle`, from 0, is to be ended."""
        return step >= self.cycle_end(cycle)

    def save_due(self, step: int, cycle: int, evaluated_step: int) -> bool:
        """Returns whether the run is to be saved and nothing else that saves it is due."""
        return (
            self._is_end_of_every(self.save_epochs, step)
            and not self.evaluation_due(step, evaluated_step)
            and not self.cycle_end_due(step, cycle)
        )

    def panels_due(self, step: int) -> bool:
        """Returns whether panels are to be drawn."""
        return self._is_end_of_every(self.panel_epochs, step)

    def next_stop(self, step: int, cycle: int) -> int:
        """Returns the first step after `step` at which something other than training is due."""
        epoch = step // self.steps_per_epoch
        stops = [
            (epoch // epochs + 1) * epochs * self.steps_per_epoch
            for epochs in (self.evaluate_epochs, self.save_epochs, self.panel_epochs)
        ]
        return min(self.num_steps, self.cycle_end(cycle), *stops)

    def is_finished(self, step: int, cycle: int, evaluated_step: int) -> bool:
        """Returns whether all training, evaluations and cycles of the run are done."""
        return (
            step == self.num_steps
            and not self.evaluation_due(step, evaluated_step)
            and not self.cycle_end_due(step, cycle)
        )
