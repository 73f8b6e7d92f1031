"""Training with cyclical self-regulation, from a config to a shipped model."""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
from etils import epath

from dmlcsr_jax import atomic_file, models
from dmlcsr_jax import config as config_lib
from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.checkpoints.model import abstract_variables, newest_in
from dmlcsr_jax.checkpoints.run import RunCheckpoints
from dmlcsr_jax.data import batches as batches_lib
from dmlcsr_jax.data.augmentation import Augmentation
from dmlcsr_jax.data.balance import BalancedSource
from dmlcsr_jax.data.implausible_labels import require_plausible_source
from dmlcsr_jax.data.mixture import open_mixture
from dmlcsr_jax.data.sources import open_source
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.distributed.preemption import Preempted, PreemptionWatch
from dmlcsr_jax.distributed.progress import progress_bar
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation import report
from dmlcsr_jax.evaluation.evaluate import evaluate
from dmlcsr_jax.evaluation.evaluate_checkpoint import evaluate_checkpoint
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.self_regulation.cycle import end_cycle
from dmlcsr_jax.training import leftovers
from dmlcsr_jax.training.header import log_header
from dmlcsr_jax.training.host_memory import keep_freed_memory
from dmlcsr_jax.training.not_finite import stop_not_finite
from dmlcsr_jax.training.optimizer import learning_rate
from dmlcsr_jax.training.optimizer import optimizer as make_optimizer
from dmlcsr_jax.training.outputs import Progress, RunOutputs, require_marks
from dmlcsr_jax.training.programs import make_programs
from dmlcsr_jax.training.run_log import RunLog
from dmlcsr_jax.training.state import TrainState
from dmlcsr_jax.training.step_records import StepRecords
from dmlcsr_jax.training.timeline import Timeline
from dmlcsr_jax.training.warm_start import initial_weights, untaught_edges
from dmlcsr_jax.training.workdir_lock import only_training

log = logging.getLogger(__name__)


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> None:
    """Trains, self-regulates and evaluates; started again, goes on from the newest checkpoint.

    Args:
      config: as `configs/default.py` lays it out.
      workdir: folder of checkpoints, record and results; may be remote (`gs://`).

    Raises:
      UserError: where the config, the data, the workdir or a checkpoint cannot be used, a loss is
        not finite, or a checkpoint cannot be saved.
      Preempted: after saving, where the processes have agreed to stop.
    """
    config_lib.validate(config)
    keep_freed_memory()
    workdir = epath.Path(workdir)

    # Mesh: one axis, over which batches are split.
    mesh = sharding.make_mesh()
    sharding.check_batch_size("train.batch_size", config.train.batch_size, mesh)
    sharding.check_batch_size("eval.batch_size", config.eval.batch_size, mesh)

    # Data: opened before the long work, so that a wrong folder ends here.
    metadata = Metadata.from_config(config)
    label_set = metadata.label_set
    train_source = open_source(config, "train", label_set)
    if config.data.balance:
        train_source = BalancedSource(train_source, label_set, config.data.balance, config.seed)
    eval_source = open_source(config, "eval", label_set)
    for name, source in (("training", train_source), ("evaluation", eval_source)):
        require_plausible_source(source, label_set, f"the {name} set")
    mixture = open_mixture(config, label_set)
    num_examples = len(train_source) + sum(len(part.source) for part in mixture.parts)
    timeline = Timeline.from_config(
        config,
        batches_lib.num_train_steps_per_epoch(
            len(train_source), config.train.batch_size, mixture.first_share
        ),
    )
    log_header(workdir, label_set, timeline, len(train_source), len(eval_source))

    views = {
        "image_size": metadata.image_size,
        "crop_margin": metadata.crop_margin,
        "num_workers": config.data.num_workers,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }

    def read(seed: int, start_step: int) -> batches_lib.Batches:
        return batches_lib.train_batches(
            train_source,
            label_set=mixture.labels,
            further=mixture.parts,
            augmentation=Augmentation.from_dict(config.augmentation.to_dict()),
            batch_size=config.train.batch_size,
            seed=seed,
            start_step=start_step,
            with_weak_views=config.loss.weights.consistency > 0,
            **views,
        )

    # Model and optimiser.
    model = build_model(metadata, config.model.dtype)
    schedule = learning_rate(
        base_rate=config.optim.base_rate * config.train.batch_size / config.optim.base_batch_size,
        steps_per_epoch=timeline.steps_per_epoch,
        num_epochs=config.train.num_epochs,
        warmup_epochs=config.optim.warmup_epochs,
        start_epoch=config.csr.start_epoch,
        cycle_epochs=config.csr.cycle_epochs,
        restart_factor=config.csr.restart_factor,
    )
    optimizer = make_optimizer(
        schedule,
        config.optim.momentum,
        config.optim.weight_decay,
        name=config.optim.name,
        encoder_factor=config.optim.encoder_factor,
        clip_norm=config.optim.clip_norm,
    )

    # State: born on the devices in the shardings that it keeps.
    create_state = functools.partial(
        TrainState.create, optimizer=optimizer, averaged=config.optim.average_decay > 0
    )
    abstract_state = jax.eval_shape(create_state, abstract_variables(metadata, config.model.dtype))
    state_sharding = sharding.state_sharding(abstract_state, mesh, fsdp=config.mesh.fsdp)
    about = {
        "config": config_lib.fixed_fields(config, label_set),
        "data": {"num_examples": num_examples},
    }
    with _closing() as opened:
        if is_locked := workdir.exists():
            opened.enter_context(only_training(workdir))
        # Resume:
        # 1. The newest complete checkpoint of the workdir, if there is one.
        if newest_in(workdir / "checkpoints"):
            checkpoints = RunCheckpoints(workdir, keep=config.checkpoint.keep)
            opened.callback(checkpoints.close)
            marks = checkpoints.read_progress()
            path = workdir / "checkpoints" / str(checkpoints.latest_step())
            require_marks(marks, path)
            config_lib.require_same(marks.pop("config"), about["config"], path)
            written = marks.pop("data")["num_examples"]
            if written != num_examples:
                raise UserError(
                    f"the checkpoint {path} was written with {written} training examples, "
                    f"there are {num_examples} now; use the same data or another --workdir."
                )
            abstract_state = sharding.with_shardings(abstract_state, state_sharding)
            state = TrainState.from_checkpoint(
                *checkpoints.restore_run(abstract_state.student, abstract_state.train_items())
            )
            progress = Progress(int(state.step), int(state.cycle), **marks)
            saved = dataclasses.replace(progress)
            log.info("resumed from %s", path)
        # 2. Else new weights; 3. in their place those of config.model.init_from that fit; 4. in
        # the encoder those of config.model.pretrained. No folder is made before all are read.
        else:
            leftovers.clear_or_refuse(workdir)
            variables = models.initial_variables(model, config.seed, config.data.image_size)
            variables = initial_weights(config, metadata, variables)
            state = jax.jit(create_state, out_shardings=state_sharding)(variables)
            atomic_file.make_folder(workdir)
            if not is_locked:
                opened.enter_context(only_training(workdir))
            checkpoints = RunCheckpoints(workdir, keep=config.checkpoint.keep)
            opened.callback(checkpoints.close)
            progress, saved = Progress(), None

        def is_finished() -> bool:
            return timeline.is_finished(progress.step, progress.cycle, progress.evaluated_step)

        results = workdir / "metrics.json"
        if results.exists() and is_finished():
            log.info("this run is finished; its results are in %s", results)
            return

        # What the loop works with; what is opened last is closed first.
        programs = make_programs(
            config, model, metadata, optimizer, schedule, mesh, state_sharding, mixture.groups
        )
        watch = PreemptionWatch()
        train_batches = read(config.seed, progress.step)
        opened.callback(train_batches.close)
        record = RunLog(
            workdir,
            step=progress.step,
            evaluated_step=progress.evaluated_step,
            teacher_step=timeline.teacher_step(progress.cycle),
        )
        opened.callback(record.close)
        outputs = RunOutputs(workdir, checkpoints, record, metadata, about, progress, saved)
        opened.callback(checkpoints.wait)  # Early: a kill could still take what is being saved.
        bar = progress_bar(
            timeline.num_steps, unit="step", description="train", initial=progress.step
        )
        opened.callback(bar.close)

        def evaluate_model(variables: dict[str, Any], kind: str) -> dict[str, Any]:
            with batches_lib.eval_batches(
                eval_source, label_set=label_set, batch_size=config.eval.batch_size, **views
            ) as batches:
                result = evaluate(
                    programs.predict,
                    variables,
                    batches,
                    label_set,
                    mesh=mesh,
                    num_examples=len(eval_source),
                    tick=watch.tick,
                    description=f"evaluate {kind}",
                )
            if problem := result.problem:
                log.warning("%s", problem)
            return result.metrics

        def statistics_batches() -> Iterator[dict[str, jax.Array]]:
            # Another seed than training's, or the same views would be seen twice.
            start_step = progress.cycle * timeline.steps_per_epoch
            with read(config.seed + 1, start_step) as batches:
                for batch in itertools.islice(batches, timeline.steps_per_epoch):
                    watch.tick()
                    yield sharding.put_batch(batch, mesh)

        def save_teacher(teacher: dict[str, Any], metrics: dict[str, Any]) -> None:
            nonlocal state
            state = state.with_teacher(teacher)
            progress.cycle += 1
            outputs.teacher(teacher, metrics)
            outputs.save(state)

        def stop_with_batch(step: int, scalars: dict[str, float]) -> None:
            # The data is a function of the step, so the batch need not have been kept.
            with read(config.seed, step - 1) as batches:
                stop_not_finite(workdir, step, scalars, next(batches))

        compiled_step = None

        def train_to(stop: int) -> None:
            nonlocal state, compiled_step
            is_soft = progress.cycle and config.csr.soft_targets
            train_step = programs.soft_step if is_soft else programs.hard_step
            with StepRecords(
                record,
                bar,
                every_steps=config.log.every_steps,
                last_step=timeline.num_steps,
                batch_size=config.train.batch_size,
                compiles=train_step is not compiled_step,
                stop_not_finite=stop_with_batch,
            ) as records:
                while progress.step < stop:
                    watch.tick()
                    local_batch = next(train_batches)
                    batch = sharding.put_batch(local_batch, mesh)
                    state, scalars = train_step(state, batch)
                    progress.step += 1
                    records.add(progress.step, scalars)
            compiled_step = train_step
            if timeline.panels_due(stop):
                teacher = state.teacher if progress.cycle else None
                maps = programs.panel_step(state.student, teacher, batch)
                names = [name for name in maps if name not in untaught_edges(config)]
                count = config.log.panel_images
                panel = report.training_panel(
                    local_batch["image"][:count],
                    {name: sharding.local_rows(maps[name])[:count] for name in names},
                    label_set,
                )
                record.panel(stop, "panels", panel)

        # Loop: at each stop all that is due is done, then training goes on to the next.
        try:
            while not is_finished():
                cycle_ends = timeline.cycle_end_due(progress.step, progress.cycle)
                if timeline.evaluation_due(progress.step, progress.evaluated_step):
                    metrics = evaluate_model(state.student, "student")
                    progress.evaluated_step = progress.step
                    outputs.evaluation("student", state.student, metrics)
                    if not cycle_ends:
                        outputs.save(state)
                elif cycle_ends:
                    end_cycle(
                        state.teacher,
                        state.student,
                        progress.cycle,
                        average=programs.average,
                        statistics_step=programs.statistics_step,
                        batches=statistics_batches(),
                        num_batches=timeline.steps_per_epoch,
                        evaluate=functools.partial(evaluate_model, kind="teacher"),
                        save=save_teacher,
                    )
                else:
                    train_to(timeline.next_stop(progress.step, progress.cycle))
                    # The first in any case: `best` holds no model without a checkpoint of the run.
                    if outputs.saved is None or timeline.save_due(
                        progress.step, progress.cycle, progress.evaluated_step
                    ):
                        outputs.save(state)
            outputs.save(state)
        except Preempted as stop:
            log.warning(
                "%s: saving step %d; the same command goes on from there", stop, progress.step
            )
            outputs.save(state)
            raise
    # Ship: the last teacher, or without cycles the student as it is at the end.
    shipped = f"teacher:{progress.cycle}" if progress.cycle else "latest"
    evaluate_checkpoint(config, workdir, shipped, out=workdir, tick=watch.tick)


@contextlib.contextmanager
def _closing() -> Iterator[contextlib.ExitStack]:
    """Gives a stack of what to close; an error of the body is raised, not one of closing."""
    with contextlib.ExitStack() as opened:
        try:
            yield opened
        except Preempted:
            raise  # No error: closing, which ends the save, is what may fail.
        except BaseException:
            with contextlib.suppress(Exception):
                opened.close()
            raise
