"""A cycle's end: what is called with what, and that nothing is saved before all is done."""

import jax
import numpy as np
import pytest

from dmlcsr_jax.self_regulation import cycle, teacher


def variables(value):
    return {
        "params": {"kernel": np.full((2, 3), value, np.float32)},
        "batch_stats": {"mean": np.full((3,), 10 * value, np.float32)},
    }


def mean_of_batch(variables, batch, num_seen):
    """The statistic of a batch is its mean times the teacher's parameter."""
    stats = {"mean": np.full((3,), np.mean(batch) * variables["params"]["kernel"][0, 0])}
    return teacher.accumulate_statistics(variables["batch_stats"], stats, num_seen)


@pytest.mark.parametrize(("number", "parameter"), [(0, 4.0), (1, 2.5), (3, 1.75)])
def test_the_teacher_is_averaged_reestimated_evaluated_and_saved(number, parameter):
    calls = []

    def evaluate(made):
        calls.append(("evaluate", made))
        return {"mean_f1": 0.5}

    cycle.end_cycle(
        variables(1.0),
        variables(4.0),
        number,
        average=teacher.average,
        statistics_step=mean_of_batch,
        batches=iter([np.float32(value) for value in (1, 2, 6)]),
        num_batches=3,
        evaluate=evaluate,
        save=lambda made, metrics: calls.append(("save", made, metrics)),
    )
    (first, evaluated), (second, saved, metrics) = calls
    assert (first, second, metrics) == ("evaluate", "save", {"mean_f1": 0.5})
    jax.tree.map(np.testing.assert_array_equal, evaluated, saved)
    np.testing.assert_allclose(saved["params"]["kernel"], parameter)
    # The plain mean over the batches; nothing of the statistics before.
    np.testing.assert_allclose(saved["batch_stats"]["mean"], 3 * parameter, rtol=1e-6)


@pytest.mark.parametrize("failing", ["batches", "evaluate"])
def test_a_cycle_stopped_on_the_way_saves_and_changes_nothing(failing):
    before, student = variables(1.0), variables(4.0)

    class Stop(Exception):
        pass

    def batches():
        yield np.float32(1)
        if failing == "batches":
            raise Stop

    def evaluate(made):
        raise Stop

    def save(made, metrics):
        pytest.fail("saved")

    with pytest.raises(Stop):
        cycle.end_cycle(
            before,
            student,
            1,
            average=teacher.average,
            statistics_step=mean_of_batch,
            batches=batches(),
            num_batches=1,
            evaluate=evaluate,
            save=save,
        )
    jax.tree.map(np.testing.assert_array_equal, before, variables(1.0))
    jax.tree.map(np.testing.assert_array_equal, student, variables(4.0))
