"""Training with cyclical self-regulation, from a config to a shipped model."""

import contextlib
import dataclasses
import functools
import io
import itertools
import logging
import sys
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from etils import epath
from tqdm import tqdm

from dmlcsr_jax import atomic_file, models
from dmlcsr_jax import config as config_lib
from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.checkpoints import run as run_lib
from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.data import inputs, workers
from dmlcsr_jax.distributed import sharding, watchdog
from dmlcsr_jax.distributed.preemption import Preempted, PreemptionWatch
from dmlcsr_jax.distributed.rows import local_rows
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation import report
from dmlcsr_jax.evaluation.evaluate import evaluate
from dmlcsr_jax.evaluation.evaluate_checkpoint import evaluate_checkpoint
from dmlcsr_jax.evaluation.scores import make_predict_fn
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.self_regulation import teacher as teacher_lib
from dmlcsr_jax.training import optimizer, run_log
from dmlcsr_jax.training import step as step_lib
from dmlcsr_jax.training.state import TrainState
from dmlcsr_jax.training.warm_start import initial_weights

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Progress:
    """What a resumed run must know besides its state.

    Attributes:
      evaluated_step: last step at which the student was evaluated.
      best_mean_f1: highest mean F1 of a student or teacher so far; -1: none was evaluated.
    """

    evaluated_step: int = 0
    best_mean_f1: float = -1.0


class Training:
    """One run: what it holds, and the order in which things happen."""

    def __init__(self, config: ml_collections.ConfigDict, workdir: epath.PathLike):
        """Builds everything that a run needs, and restores it from the newest checkpoint.

        Raises:
          UserError: where the config, the data or the checkpoint cannot be used.
        """
        # 1. What the network is told apart by, and the devices.
        self.config, self.workdir = config, epath.Path(workdir)
        self.metadata = Metadata.from_config(config)
        self.mesh = sharding.make_mesh()
        sharding.check_batch_size("train.batch_size", config.train.batch_size, self.mesh)
        sharding.check_batch_size("eval.batch_size", config.eval.batch_size, self.mesh)

        # 2. The data, opened before the long work so that a wrong folder ends here.
        self.train_source = inputs.open_source(config, "train", self.metadata.label_set)
        self.eval_source = inputs.open_source(config, "eval", self.metadata.label_set)
        self.steps_per_epoch = len(self.train_source) // config.train.batch_size
        if self.steps_per_epoch == 0:
            raise UserError(
                f"config.train.batch_size is {config.train.batch_size} but the training set has "
                f"only {len(self.train_source)} examples; lower it."
            )
        self.num_steps = config.train.num_epochs * self.steps_per_epoch

        # 3. The network and its optimiser.
        self.model = build_model(self.metadata, config.model.dtype)
        self.schedule = optimizer.learning_rate(
            base_rate=config.optim.base_rate
            * config.train.batch_size
            / config.optim.base_batch_size,
            steps_per_epoch=self.steps_per_epoch,
            num_epochs=config.train.num_epochs,
            warmup_epochs=config.optim.warmup_epochs,
            start_epoch=config.csr.start_epoch,
            cycle_epochs=config.csr.cycle_epochs,
        )
        self.optimizer = optimizer.optimizer(
            self.schedule, config.optim.momentum, config.optim.weight_decay
        )

        # 4. The state: born sharded, then restored, or begun from given weights.
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.checkpoints = run_lib.RunCheckpoints(workdir, keep=config.checkpoint.keep)
        self.progress = Progress()
        self.state, self.state_sharding = self._initial_or_restored_state()
        self.step, self.cycle = int(self.state.step), int(self.state.cycle)
        self._saved = None if self.checkpoints.latest_step() is None else self._stand()

        # 5. The compiled steps and the record.
        self._compile_steps()
        self.watch = PreemptionWatch()
        self.record = run_log.RunLog(
            workdir,
            step=self.step,
            evaluated_step=self.progress.evaluated_step,
            teacher_step=self._cycle_end_step(self.cycle - 1) if self.cycle else 0,
        )

    def _initial_or_restored_state(self) -> tuple[TrainState, Any]:
        config = self.config
        create = functools.partial(TrainState.create, optimizer=self.optimizer)
        abstract_state = jax.eval_shape(
            create, model.abstract_variables(self.metadata, config.model.dtype)
        )
        state_sharding = sharding.state_sharding(abstract_state, self.mesh, fsdp=config.mesh.fsdp)
        progress = self.checkpoints.read_progress()
        if progress is not None:
            path = self.workdir / "checkpoints" / str(self.checkpoints.latest_step())
            config_lib.require_same(progress.pop("config"), self._fixed_fields(), path)
            data = progress.pop("data")
            if data["num_examples"] != len(self.train_source):
                raise UserError(
                    f"the checkpoint {path} was written with {data['num_examples']} training "
                    f"examples, there are {len(self.train_source)} now; use the same data or "
                    "another --workdir."
                )
            self.progress = Progress(**progress)
            target = jax.tree.map(
                lambda leaf, sharding: leaf.update(sharding=sharding),
                abstract_state,
                state_sharding,
            )
            restored = self.checkpoints.restore_run(target.student, target.train_items)
            log.info("resumed from %s", path)
            return TrainState.from_items(*restored), state_sharding
        variables = models.initial_variables(self.model, config.seed, config.data.image_size)
        variables = initial_weights(config, self.metadata, variables)
        return jax.jit(create, out_shardings=state_sharding)(variables), state_sharding

    def _fixed_fields(self) -> dict[str, Any]:
        return config_lib.fixed_fields(self.config, self.metadata.label_set)

    def _compile_steps(self) -> None:
        config = self.config
        weights = {
            name: config.loss[name]
            for name in (
                "cross_entropy",
                "lovasz",
                "binary_edge",
                "category_edge",
                "attention_binary",
                "attention_category",
            )
        }
        common = {"model": self.model, "metadata": self.metadata}

        def compile_train_step(self_regulated: bool):
            return jax.jit(
                functools.partial(
                    step_lib.train_step,
                    optimizer=self.optimizer,
                    schedule=self.schedule,
                    loss_weights=weights,
                    edge_width=config.loss.edge_width,
                    self_regulated=self_regulated,
                    mesh=self.mesh,
                    **common,
                ),
                out_shardings=(self.state_sharding, sharding.replicated(self.mesh)),
                donate_argnums=(0,),
            )

        self.hard_step = compile_train_step(self_regulated=False)
        self.soft_step = compile_train_step(self_regulated=True)
        self.average = jax.jit(
            teacher_lib.average, out_shardings=self.state_sharding.teacher_params
        )
        self.statistics_step = jax.jit(
            functools.partial(step_lib.statistics_step, **common),
            out_shardings=self.state_sharding.teacher_batch_stats,
        )
        self.panel_step = jax.jit(
            functools.partial(step_lib.panel_step, edge_width=config.loss.edge_width, **common)
        )
        self.predict_fn = make_predict_fn(
            self.model,
            self.metadata,
            mesh=self.mesh,
            flip=config.eval.flip,
            scales=tuple(config.eval.scales),
        )

    def run(self) -> None:
        """Goes on from wherever the run stands to its end, or to a preemption.

        Raises:
          UserError: where a loss is not finite or a checkpoint cannot be saved.
        """
        try:
            while not self.is_finished:
                if self._evaluation_pending():
                    self._evaluate_student()
                elif self._cycle_end_pending():
                    self._end_cycle()
                else:
                    self._train_to(self._next_stop())
            self.save()
        except Preempted:
            log.warning("preempted: saving step %d; the same command goes on from there", self.step)
            self.save()
            self._close()
            raise
        except BaseException:
            # What went wrong first is what to tell.
            with contextlib.suppress(Exception):
                self._close()
            raise
        self._close()

    def _close(self) -> None:
        self._bar.close()
        with contextlib.ExitStack() as stack:
            # The last is closed first: what a kill could still take.
            if "_train_batches" in self.__dict__:
                stack.callback(self._train_batches.close)
            stack.callback(self.record.close)
            stack.callback(self.checkpoints.close)

    def _every(self, epochs: int) -> bool:
        return self.step % (epochs * self.steps_per_epoch) == 0

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do but the final evaluation."""
        return self.step == self.num_steps and not self._pending()

    def _evaluation_pending(self) -> bool:
        due = self._every(self.config.eval.every_epochs) or self.step == self.num_steps
        return due and self.step > self.progress.evaluated_step

    def _cycle_end_step(self, cycle: int) -> int:
        """Returns the step at which cycle number `cycle`, from 0, ends."""
        csr = self.config.csr
        return (csr.start_epoch + (cycle + 1) * csr.cycle_epochs) * self.steps_per_epoch

    def _cycle_end_pending(self) -> bool:
        return self.step >= self._cycle_end_step(self.cycle)

    def _pending(self) -> bool:
        return self._evaluation_pending() or self._cycle_end_pending()

    def _next_stop(self) -> int:
        """Returns the end of the next epoch after which there is something to do."""
        epoch = self.step // self.steps_per_epoch
        config = self.config
        strides = (
            config.eval.every_epochs,
            config.checkpoint.every_epochs,
            config.log.panels_every_epochs,
        )
        stops = [(epoch // stride + 1) * stride * self.steps_per_epoch for stride in strides]
        return min(self.num_steps, self._cycle_end_step(self.cycle), *stops)

    @functools.cached_property
    def _train_batches(self) -> workers.Batches:
        return self._read(self.config.seed, self.step)

    def _read(self, seed: int, start_step: int) -> workers.Batches:
        return inputs.train_batches(
            self.config,
            self.train_source,
            self.metadata.label_set,
            seed=seed,
            start_step=start_step,
        )

    @property
    def _bar_options(self) -> dict[str, Any]:
        return {
            "disable": jax.process_index() != 0,
            "mininterval": 0.5 if sys.stderr.isatty() else 10,
            "dynamic_ncols": True,
        }

    @functools.cached_property
    def _bar(self) -> tqdm:
        return tqdm(
            total=self.num_steps,
            initial=self.step,
            unit="step",
            desc="train",
            **self._bar_options,
        )

    def _train_to(self, stop: int) -> None:
        train_step = self.soft_step if self.cycle > 0 else self.hard_step
        bar = self._bar
        started, first_step = time.perf_counter(), self.step + 1
        # Scalars are fetched one step late: the host then waits for work that is already done.
        pending = None
        try:
            while self.step < stop:
                self.watch.tick()
                local_batch = next(self._train_batches)
                batch = sharding.put_batch(local_batch, self.mesh)
                self.state, scalars = train_step(self.state, batch)
                self.step += 1
                if pending is not None:
                    self._record(*pending, started, first_step)
                if self.step == first_step + 1:
                    started = time.perf_counter()  # The first step was spent on compiling.
                pending = (self.step, scalars)
                bar.update()
        finally:
            # Also before a preempted run is saved: a state that is not finite must not be.
            if pending is not None:
                self._record(*pending, started, first_step)
        if self._every(self.config.log.panels_every_epochs):
            self._log_panels(batch, local_batch)
        if not self._pending() and self._every(self.config.checkpoint.every_epochs):
            self.save()

    def _record(
        self, step: int, scalars: dict[str, jax.Array], started: float, first_step: int
    ) -> None:
        scalars = {name: float(value) for name, value in jax.device_get(scalars).items()}
        if not scalars.pop("finite"):
            self._stop_not_finite(step, scalars)
        if step % self.config.log.every_steps == 0 or step == self.num_steps:
            # Without the first step since a pause: it compiles, or waits for the readers.
            speed = ""
            if step > first_step:
                seconds = time.perf_counter() - started
                rate = (step - first_step) * self.config.train.batch_size / seconds
                scalars["images_per_second"] = rate
                speed = f"{rate:.1f} images/s, "
            self.record.scalars(step, "train", scalars)
            self._bar.set_postfix_str(f"{speed}loss {scalars['loss']:.3f}")

    def _stop_not_finite(self, step: int, scalars: dict[str, float]) -> None:
        path = self.workdir / f"not_finite_step_{step}_process_{jax.process_index()}.npz"
        # The data is a function of the step, so the batch need not have been kept.
        with self._read(self.config.seed, step - 1) as batches:
            batch = next(batches)
        data = io.BytesIO()
        np.savez_compressed(data, **batch)
        try:
            atomic_file.write_bytes(path, data.getvalue())
            where = f"its batch stands in {path}"
        except OSError as error:
            where = f"its batch could not be written to {path} ({error.strerror or error})"
        # The first to leave ends the others.
        watchdog.meet("a batch of a loss that is not finite is written")
        terms = ", ".join(f"{name} {value:g}" for name, value in scalars.items())
        raise UserError(
            f"the loss or its gradient is not finite at step {step} ({terms}); {where}: look at "
            "it, or lower config.optim.base_rate and start with another --workdir."
        )

    def _log_panels(self, batch, local_batch) -> None:
        predictions = self.panel_step(self.state, batch)
        rows = {name: local_rows(value) for name, value in predictions.items()}
        if self.cycle == 0:
            del rows["teacher_prediction"]
        count = self.config.log.panel_images
        panel = report.training_panel(
            local_batch["image"][:count],
            {name: value[:count] for name, value in rows.items()},
            self.metadata.label_set,
        )
        self.record.panel(self.step, "panels", panel)

    def _evaluate(self, variables, name: str) -> dict[str, Any]:
        label_set, image_size = self.metadata.label_set, self.metadata.image_size
        with inputs.eval_batches(
            self.config, self.eval_source, label_set, image_size=image_size
        ) as batches:
            result = evaluate(
                self.predict_fn,
                variables,
                batches,
                label_set,
                mesh=self.mesh,
                num_examples=len(self.eval_source),
                tick=self.watch.tick,
                description=f"evaluate {name}",
            )
        return result.metrics

    def _record_evaluation(self, kind: str, metrics: dict[str, Any], variables) -> None:
        self.record.scalars(self.step, kind, report.scalar_metrics(metrics))
        log.info(
            "step %d, %s: mean F1 %.4f, mIoU %.4f",
            self.step,
            kind,
            metrics["mean_f1"],
            metrics["miou"],
        )
        if metrics["mean_f1"] > self.progress.best_mean_f1:
            self.progress.best_mean_f1 = metrics["mean_f1"]
            self.checkpoints.save_best(self.step, self.metadata, variables)

    def _evaluate_student(self) -> None:
        metrics = self._evaluate(self.state.student, "student")
        self.progress.evaluated_step = self.step
        self._record_evaluation("student", metrics, self.state.student)
        if not self._cycle_end_pending():
            self.save()

    def _end_cycle(self) -> None:
        """Averages, re-estimates, evaluates and saves; until all is done the state stays as it was.

        Method, cyclical self-regulation; the student goes on from its own weights.
        """
        state = self.state
        teacher = {
            "params": self.average(state.teacher_params, state.params, self.cycle),
            "batch_stats": jax.device_put(
                jax.tree.map(np.zeros_like, state.teacher_batch_stats),
                self.state_sharding.teacher_batch_stats,
            ),
        }
        # Another seed than training's, or the same views would be seen twice.
        seed, start_step = self.config.seed + 1, self.cycle * self.steps_per_epoch
        with self._read(seed, start_step) as batches:
            bar = tqdm(
                itertools.islice(batches, self.steps_per_epoch),
                total=self.steps_per_epoch,
                unit="batch",
                desc="statistics",
                leave=False,
                **self._bar_options,
            )
            for num_seen, local_batch in enumerate(bar):
                self.watch.tick()
                batch = sharding.put_batch(local_batch, self.mesh)
                teacher["batch_stats"] = self.statistics_step(teacher, batch, num_seen)
        metrics = self._evaluate(teacher, "teacher")
        self.cycle += 1
        self.state = state.replace(
            teacher_params=teacher["params"],
            teacher_batch_stats=teacher["batch_stats"],
            cycle=state.cycle + 1,
        )
        self._record_evaluation("teacher", metrics, teacher)
        self.checkpoints.save_teacher(self.cycle, self.metadata, teacher)
        self.save()

    def _stand(self) -> tuple:
        return self.step, self.cycle, *dataclasses.astuple(self.progress)

    def save(self) -> None:
        """Saves the run as it stands, unless it is saved; the record is written out with it."""
        if self._saved == self._stand():
            return
        self._saved = self._stand()
        progress = dataclasses.asdict(self.progress) | {
            "config": self._fixed_fields(),
            "data": {"num_examples": len(self.train_source)},
        }
        self.checkpoints.wait()
        # Before the checkpoint: what it has more than that is left out on resuming.
        try:
            self.record.flush()
        except OSError as error:
            raise run_lib.cannot_save(self.workdir, error) from error
        state = self.state
        self.checkpoints.save_run(
            self.step, self.metadata, state.student, state.train_items, progress
        )


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> None:
    """Trains, self-regulates and evaluates; started again, goes on from the newest checkpoint.

    Args:
      config: as `configs/default.py` lays it out.
      workdir: folder of checkpoints, record and results; may be remote (`gs://`).

    Raises:
      UserError: where the config, the data or a checkpoint cannot be used.
    """
    config_lib.validate(config)
    training = Training(config, workdir)
    results = training.workdir / "metrics.json"
    if training.is_finished and results.exists():
        log.info("this run is finished; its results stand in %s", results)
        return
    try:
        training.run()
        shipped = f"teacher:{training.cycle}" if training.cycle else "latest"
        evaluate_checkpoint(config, workdir, shipped, out=workdir, tick=training.watch.tick)
    except Preempted:
        return
