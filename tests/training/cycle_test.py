"""A cycle's end: what is called with what, and that nothing is saved before all is done."""

import contextlib
import itertools
import types

import jax
import numpy as np
import optax
import pytest

from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.self_regulation import teacher
from dmlcsr_jax.training.cycle import end_cycle
from dmlcsr_jax.training.resume import Progress
from dmlcsr_jax.training.state import TrainState

BATCHES = (1, 2, 6)


def variables(value):
    return {
        "params": {"kernel": np.full((2, 3), value, np.float32)},
        "batch_stats": {"mean": np.full((3,), 10 * value, np.float32)},
    }


def mean_of_batch(variables, batch, num_seen):
    """The statistic of a batch is its mean times the teacher's parameter."""
    stats = {"mean": np.full((3,), np.mean(batch) * variables["params"]["kernel"][0, 0])}
    return teacher.accumulate_statistics(variables["batch_stats"], stats, num_seen)


class Outputs:
    def __init__(self, cycle):
        self.progress = Progress(step=8, cycle=cycle)
        self.calls = []

    def teacher(self, made, result):
        self.calls.append(("teacher", self.progress.cycle, made, result))

    def save(self, state):
        self.calls.append(("save", self.progress.cycle, state.teacher, int(state.cycle)))


def end(outputs, *, evaluate, tick=lambda: None):
    """Ends the cycle of a student of 4 and a teacher of 1; returns both states and the reads."""
    cycle, reads = outputs.progress.cycle, []
    state = TrainState.create(variables(4.0), optax.sgd(0.1))
    state = state.replace(
        teacher_params=variables(1.0)["params"],
        teacher_batch_stats=variables(1.0)["batch_stats"],
        cycle=np.int32(cycle),
    )
    before = jax.tree.map(np.array, state)

    @contextlib.contextmanager
    def read(seed, start_step):
        reads.append((seed, start_step))
        # Endless, as the training's.
        yield itertools.cycle(np.full(jax.device_count(), value, np.float32) for value in BATCHES)

    programs = types.SimpleNamespace(average=teacher.average, statistics_step=mean_of_batch)
    try:
        after = end_cycle(
            state,
            programs,
            outputs,
            read=read,
            seed=5,
            num_batches=len(BATCHES),
            mesh=sharding.make_mesh(),
            tick=tick,
            evaluate=evaluate,
        )
    finally:
        jax.tree.map(np.testing.assert_array_equal, state, before)
    assert reads == [(6, cycle * len(BATCHES))]
    return state, after


@pytest.mark.parametrize(("number", "parameter"), [(0, 4.0), (1, 2.5), (3, 1.75)])
def test_the_teacher_is_averaged_reestimated_evaluated_and_saved(number, parameter):
    evaluated, outputs = [], Outputs(number)

    def evaluate(made, description):
        assert outputs.calls == []
        evaluated.append(made)
        return "found"

    before, after = end(outputs, evaluate=evaluate)
    (first, *made), (second, *saved) = outputs.calls
    assert (first, second) == ("teacher", "save")
    assert made[0] == saved[0] == saved[2] == int(after.cycle) == number + 1
    assert made[2] == "found"
    for tree in (made[1], saved[1], after.teacher):
        jax.tree.map(np.testing.assert_array_equal, tree, evaluated[0])
    np.testing.assert_allclose(after.teacher_params["kernel"], parameter)
    # The plain mean over the batches; nothing of the statistics before.
    np.testing.assert_allclose(after.teacher_batch_stats["mean"], 3 * parameter, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, after.eval_variables, before.eval_variables)


@pytest.mark.parametrize("failing", ["batches", "evaluate"])
def test_a_cycle_stopped_on_the_way_saves_and_changes_nothing(failing):
    class Stop(Exception):
        pass

    def stop(*args, **kwargs):
        raise Stop

    outputs = Outputs(1)
    with pytest.raises(Stop):
        end(outputs, evaluate=stop, **({"tick": stop} if failing == "batches" else {}))
    assert outputs.calls == []
    assert outputs.progress == Progress(step=8, cycle=1)
