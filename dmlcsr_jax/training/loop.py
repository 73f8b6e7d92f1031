"""Training with cyclical self-regulation, from a config to a shipped model."""

import contextlib
import functools
import logging
from collections.abc import Iterator

import jax
import ml_collections
from etils import epath

from dmlcsr_jax import config as config_lib
from dmlcsr_jax.data import batches as batches_lib
from dmlcsr_jax.data.augmentation import Augmentation
from dmlcsr_jax.data.implausible_labels import require_plausible_source
from dmlcsr_jax.data.mixture import Mixture, open_mixture
from dmlcsr_jax.data.sources import open_source
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.distributed.preemption import Preempted, PreemptionWatch
from dmlcsr_jax.evaluation.evaluate_checkpoint import evaluate_checkpoint
from dmlcsr_jax.evaluation.evaluate_source import evaluate_source
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.progress import progress_bar
from dmlcsr_jax.training.cycle import end_cycle
from dmlcsr_jax.training.header import log_header
from dmlcsr_jax.training.host_memory import keep_freed_memory
from dmlcsr_jax.training.not_finite import stop_not_finite
from dmlcsr_jax.training.optimizer import optimizer_from_config
from dmlcsr_jax.training.outputs import RunOutputs
from dmlcsr_jax.training.programs import make_programs
from dmlcsr_jax.training.resume import decides_result, start_or_resume
from dmlcsr_jax.training.run_log import RunLog
from dmlcsr_jax.training.step_records import StepRecords
from dmlcsr_jax.training.timeline import Timeline
from dmlcsr_jax.training.warm_start import untaught_edges
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
    eval_source = open_source(config, "eval", label_set)
    for name, source in (("training", train_source), ("evaluation", eval_source)):
        require_plausible_source(source, label_set, f"the {name} set")
    mixture = open_mixture(config, label_set)
    num_examples = len(train_source) + sum(len(part.source) for part in mixture.parts)
    read = functools.partial(_read, config, metadata, train_source, mixture)
    steps_per_epoch = batches_lib.num_train_steps_per_epoch(
        len(train_source), config.train.batch_size, mixture.first_share
    )
    timeline = Timeline.from_config(config, steps_per_epoch)
    log_header(workdir, label_set, timeline, len(train_source), len(eval_source))

    # Model and optimiser.
    model = build_model(metadata, config.model.dtype)
    optimizer, schedule = optimizer_from_config(config, steps_per_epoch)

    with _closing() as opened:
        if is_locked := workdir.exists():
            opened.enter_context(only_training(workdir))
        about = decides_result(config, label_set, num_examples)
        state, progress, checkpoints = start_or_resume(
            config,
            workdir,
            model=model,
            metadata=metadata,
            optimizer=optimizer,
            mesh=mesh,
            about=about,
        )
        opened.callback(checkpoints.close)
        if not is_locked:
            opened.enter_context(only_training(workdir))
        if timeline.is_finished(*progress.counts) and (workdir / "metrics.json").exists():
            log.info("this run is finished; its results are in %s", workdir / "metrics.json")
            return

        # What the loop works with; what is opened last is closed first.
        shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
        programs = make_programs(
            config, model, metadata, optimizer, schedule, mesh, shardings, mixture.groups
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
        outputs = RunOutputs(workdir, checkpoints, record, metadata, about, progress)
        opened.callback(checkpoints.wait)  # Early: a kill could still take what is being saved.
        bar = progress_bar(
            timeline.num_steps, unit="step", description="train", initial=progress.step
        )
        opened.callback(bar.close)
        evaluate = functools.partial(
            evaluate_source,
            programs.predict,
            source=eval_source,
            label_set=label_set,
            config=config,
            metadata=metadata,
            mesh=mesh,
            tick=watch.tick,
        )
        step_records = functools.partial(
            StepRecords,
            record,
            bar,
            every_steps=config.log.every_steps,
            last_step=timeline.num_steps,
            batch_size=config.train.batch_size,
            stop_not_finite=functools.partial(
                stop_not_finite, workdir, functools.partial(read, config.seed)
            ),
        )

        # Loop: at each stop all that is due is done, then training goes on to the next.
        compiled_step = None
        try:
            while not timeline.is_finished(*progress.counts):
                cycle_ends = timeline.cycle_end_due(progress.step, progress.cycle)
                if timeline.evaluation_due(progress.step, progress.evaluated_step):
                    result = evaluate(state.eval_variables, description="evaluate student")
                    progress.evaluated_step = progress.step
                    outputs.evaluation("student", state.eval_variables, result)
                    if not cycle_ends:
                        outputs.save(state)
                elif cycle_ends:
                    state = end_cycle(
                        state,
                        programs,
                        outputs,
                        read=read,
                        seed=config.seed,
                        num_batches=steps_per_epoch,
                        mesh=mesh,
                        tick=watch.tick,
                        evaluate=evaluate,
                    )
                else:
                    stop = timeline.next_stop(progress.step, progress.cycle)
                    is_soft = progress.cycle and config.csr.soft_targets
                    train_step = programs.soft_step if is_soft else programs.hard_step
                    with step_records(compiles=train_step is not compiled_step) as records:
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
                        maps = programs.panel_step(state.eval_variables, teacher, batch)
                        taught = {n: maps[n] for n in maps.keys() - untaught_edges(config)}
                        outputs.panel(local_batch["image"], taught, config.log.panel_images)
                    # The first in any case: `best` holds no model without a checkpoint of the run.
                    if outputs.saved is None or timeline.save_due(*progress.counts):
                        outputs.save(state)
            outputs.save(state)
        except Preempted as reason:
            log.warning(
                "%s: saving step %d; the same command goes on from there", reason, progress.step
            )
            outputs.save(state)
            raise
    # Ship: the last teacher, or without cycles the student as it is at the end.
    shipped = f"teacher:{progress.cycle}" if progress.cycle else "latest"
    evaluate_checkpoint(config, workdir, shipped, out=workdir, tick=watch.tick)


def _read(
    config: ml_collections.ConfigDict,
    metadata: Metadata,
    source,
    mixture: Mixture,
    seed: int,
    start_step: int,
) -> batches_lib.Batches:
    """Returns this process's part of the training batches from a step on."""
    return batches_lib.train_batches(
        source,
        label_set=mixture.labels,
        further=mixture.parts,
        augmentation=Augmentation.from_dict(config.augmentation.to_dict()),
        image_size=metadata.image_size,
        crop_margin=metadata.crop_margin,
        batch_size=config.train.batch_size,
        seed=seed,
        start_step=start_step,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        with_weak_views=config.loss.weights.consistency > 0,
    )


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
