"""What happens at a cycle's end (arXiv 2203.14448, section 3.4)."""

import itertools
from collections.abc import Callable

import jax

from dmlcsr_jax.data.batches import Batches
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.evaluation.evaluate import EvaluationResult
from dmlcsr_jax.progress import progress_bar
from dmlcsr_jax.training.outputs import RunOutputs
from dmlcsr_jax.training.programs import Programs
from dmlcsr_jax.training.state import TrainState


def end_cycle(
    state: TrainState,
    programs: Programs,
    outputs: RunOutputs,
    *,
    read: Callable[[int, int], Batches],
    seed: int,
    num_batches: int,
    mesh: jax.sharding.Mesh,
    tick: Callable[[], None],
    evaluate: Callable[..., EvaluationResult],
) -> TrainState:
    """Averages the student into the teacher, re-estimates its statistics, evaluates and saves.

    Until it is saved nothing is changed: a run stopped before begins this anew. The student goes on
    from its own weights.

    Args:
      state: of the run, at the last step of the cycle.
      programs: of the run.
      outputs: record and save the teacher; their progress gets one more cycle.
      read: of a seed and a step, the batches of the training set from there.
      seed: of the batches that training reads.
      num_batches: batches of an epoch, over which the statistics are re-estimated.
      mesh: the devices.
      tick: called once a batch; what it raises ends this.
      evaluate: of a model's variables, what is found; takes `description`.

    Returns:
      The state with the next teacher.
    """
    cycle = outputs.progress.cycle
    teacher = {
        "params": programs.average(state.teacher_params, state.eval_variables["params"], cycle),
        # Those of the teacher before have no part in the new mean, which begins with 0 batches.
        "batch_stats": state.teacher_batch_stats,
    }
    with (
        # Another seed than training's, or the same views would be seen twice.
        read(seed + 1, cycle * num_batches) as batches,
        progress_bar(num_batches, unit="batch", description="statistics", leave=False) as bar,
    ):
        for num_seen, batch in enumerate(itertools.islice(batches, num_batches)):
            tick()
            batch = sharding.put_batch(batch, mesh)
            teacher["batch_stats"] = programs.statistics_step(teacher, batch, num_seen)
            bar.update()
    result = evaluate(teacher, description="evaluate teacher")

    state = state.with_teacher(teacher)
    outputs.progress.cycle += 1
    outputs.teacher(teacher, result)
    outputs.save(state)
    return state
