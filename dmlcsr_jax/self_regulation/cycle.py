"""What happens at a cycle's end (arXiv 2203.14448, section 3.4)."""

from collections.abc import Callable, Iterable
from typing import Any

from dmlcsr_jax.distributed.progress import progress_bar


def end_cycle(
    teacher: dict[str, Any],
    student: dict[str, Any],
    cycle: int,
    *,
    average: Callable,
    statistics_step: Callable,
    batches: Iterable,
    num_batches: int,
    evaluate: Callable[[dict[str, Any]], Any],
    save: Callable[[dict[str, Any], Any], None],
) -> None:
    """Averages the student into the teacher, re-estimates its statistics, evaluates, then saves.

    Until `save` is called nothing is changed: a run stopped before begins this anew. The student
    goes on from its own weights.

    Args:
      teacher: `{"params", "batch_stats"}`, the mean of `cycle` students; finite numbers where
        there is none yet.
      student: `{"params", "batch_stats"}`.
      cycle: number of the cycle, from 0.
      average: of both trees of parameters and the cycle, the next teacher's, as `teacher.average`.
      statistics_step: of a teacher, a batch and the number of batches before it, the mean of the
        batch statistics so far.
      batches: batches of the training set for `statistics_step`.
      num_batches: how many there are.
      evaluate: of a teacher, its metrics.
      save: takes the teacher and its metrics.
    """
    teacher = {
        "params": average(teacher["params"], student["params"], cycle),
        # Those of the teacher before have no part in the new mean, which begins with 0 batches.
        "batch_stats": teacher["batch_stats"],
    }
    with progress_bar(num_batches, unit="batch", description="statistics", leave=False) as bar:
        for num_seen, batch in enumerate(batches):
            teacher["batch_stats"] = statistics_step(teacher, batch, num_seen)
            bar.update()
    save(teacher, evaluate(teacher))
