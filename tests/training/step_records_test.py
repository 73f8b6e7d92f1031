"""Scalars of steps: one step late, the last in any case, and what the bar says meanwhile."""

import types

import pytest

from dmlcsr_jax.training import step_records
from dmlcsr_jax.training.step_records import StepRecords


class Record:
    def __init__(self):
        self.lines = []

    def scalars(self, step, kind, values):
        assert kind == "train"
        self.lines.append((step, values))


class Bar:
    def __init__(self):
        self.words = []
        self.count = 0

    def set_postfix_str(self, words):
        self.words.append(words)

    def update(self):
        self.count += 1


def scalars(loss):
    return {"loss": loss, "finite": loss == loss}


def open_records(record, bar, *, every_steps=1, compiles=False, stop=None):
    return StepRecords(
        record,
        bar,
        every_steps=every_steps,
        last_step=9,
        batch_size=4,
        compiles=compiles,
        stop_not_finite=stop or pytest.fail,
    )


def test_a_step_is_recorded_after_the_next_and_the_last_at_the_end(monkeypatch):
    clock = iter([10.0, 12.0, 16.0])
    monkeypatch.setattr(step_records, "time", types.SimpleNamespace(perf_counter=clock.__next__))
    record, bar = Record(), Bar()
    with open_records(record, bar) as records:
        for step in (3, 4, 5):
            assert [line for line, _ in record.lines] == list(range(3, step - 1))
            records.add(step, scalars(float(step)))
    # The speed leaves out the first step: one batch of 4 in 2 s, two in 6 s.
    assert record.lines == [
        (3, {"loss": 3.0}),
        (4, {"loss": 4.0, "images_per_second": 2.0}),
        (5, {"loss": 5.0, "images_per_second": pytest.approx(8 / 6)}),
    ]
    assert bar.count == 3
    assert bar.words == [
        "loss 3.000",
        "2.0 images/s, loss 4.000",
        "1.3 images/s, loss 5.000",
    ]


@pytest.mark.parametrize(("every_steps", "kept"), [(1, [7, 8, 9]), (2, [8, 9]), (50, [9])])
def test_every_so_many_steps_and_the_last_of_the_run_are_recorded(every_steps, kept):
    record = Record()
    with open_records(record, Bar(), every_steps=every_steps) as records:
        for step in (7, 8, 9):
            records.add(step, scalars(1.0))
    assert [step for step, _ in record.lines] == kept


@pytest.mark.parametrize("compiles", [False, True])
def test_the_bar_says_compiling_until_the_first_step_is_out(compiles):
    bar = Bar()
    with open_records(Record(), bar, every_steps=50, compiles=compiles) as records:
        assert bar.words == ["compiling"] * compiles
        records.add(1, scalars(1.0))
        assert bar.words == ["compiling", ""] * compiles


class Stop(Exception):
    pass


def test_a_loss_that_is_not_finite_stops_the_run_once():
    stopped = []

    def stop(step, values):
        stopped.append((step, *values))
        raise Stop

    def train():
        with open_records(record, Bar(), stop=stop) as records:
            records.add(1, scalars(1.0))
            records.add(2, scalars(float("nan")))
            records.add(3, scalars(1.0))
            pytest.fail("went on")

    record = Record()
    with pytest.raises(Stop):
        train()
    assert stopped == [(2, "loss")]
    assert [step for step, _ in record.lines] == [1]


def test_a_run_that_is_preempted_is_found_to_be_not_finite_before_it_is_saved():
    def stop(step, values):
        raise Stop

    def train():
        with open_records(Record(), Bar(), stop=stop) as records:
            records.add(1, scalars(float("nan")))
            raise KeyboardInterrupt

    with pytest.raises(Stop):
        train()
