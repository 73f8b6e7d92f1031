"""The scalars of training steps on their way to the record and the progress bar."""

import time
from collections.abc import Callable

import jax
from tqdm import tqdm

from dmlcsr_jax.training.run_log import RunLog


class StepRecords:
    """Records the steps from one stop of a run to the next; to be used in a `with` block.

    Scalars are fetched one step late: the host then waits for work that is already done. Leaving
    the block fetches the last, also where it is left by an exception: before a preempted run is
    saved it must be known that its state is finite.
    """

    def __init__(
        self,
        record: RunLog,
        bar: tqdm,
        *,
        every_steps: int,
        last_step: int,
        batch_size: int,
        compiles: bool,
        stop_not_finite: Callable[[int, dict[str, float]], None],
    ):
        """Begins at a stop.

        Args:
          record: gets the scalars.
          bar: gets speed and loss, and shows the steps.
          every_steps: steps from one record to the next.
          last_step: of the run, recorded in any case.
          batch_size: global, for the speed.
          compiles: whether the first step compiles a program, which takes its time.
          stop_not_finite: given the step and its scalars, ends the run.
        """
        self._record, self._bar = record, bar
        self._every_steps, self._last_step = every_steps, last_step
        self._batch_size = batch_size
        self._stop_not_finite = stop_not_finite
        self._first_step: int | None = None
        self._started = 0.0
        self._pending: tuple[int, dict[str, jax.Array]] | None = None
        self._compiles = compiles
        if compiles:
            bar.set_postfix_str("compiling")

    def __enter__(self) -> "StepRecords":
        return self

    def __exit__(self, *exception) -> None:
        self._record_pending()

    def add(self, step: int, scalars: dict[str, jax.Array]) -> None:
        """Takes the scalars of `training.step.train_step`, and records those of the step before."""
        self._record_pending()
        if self._first_step is None:
            self._first_step = step
            if self._compiles:
                self._bar.set_postfix_str("")
        self._pending = step, scalars
        self._bar.update()

    def _record_pending(self) -> None:
        if self._pending is None:
            return
        (step, scalars), self._pending = self._pending, None
        scalars = {name: float(value) for name, value in jax.device_get(scalars).items()}
        if step == self._first_step:
            # The speed leaves out this step: it compiles, or waits for the readers.
            self._started = time.perf_counter()
        if not scalars.pop("finite"):
            self._stop_not_finite(step, scalars)
        if step % self._every_steps and step != self._last_step:
            return
        speed = ""
        if step > self._first_step:
            seconds = time.perf_counter() - self._started
            rate = (step - self._first_step) * self._batch_size / seconds
            scalars["images_per_second"] = rate
            speed = f"{rate:.1f} images/s, "
        self._record.scalars(step, "train", scalars)
        self._bar.set_postfix_str(f"{speed}loss {scalars['loss']:.3f}")
