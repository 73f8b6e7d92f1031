"""What is due at each step, against tables written out by hand."""

import pytest
from dmlcsr_jax.configs import default

from dmlcsr_jax.training.timeline import Timeline

# Epochs of 2 steps; 5 epochs, then two cycles of one epoch. Evaluation every 2 epochs, a save every
# epoch, panels every 3.
SMALL = Timeline(
    steps_per_epoch=2,
    num_epochs=7,
    start_epoch=5,
    cycle_epochs=1,
    evaluate_epochs=2,
    save_epochs=1,
    panel_epochs=3,
)


def events(timeline):
    """Plays a run through as the loop does, and returns what is done at which step."""
    step = cycle = evaluated_step = 0
    done = []
    while not timeline.is_finished(step, cycle, evaluated_step):
        if timeline.evaluation_due(step, evaluated_step):
            evaluated_step = step
            done.append((step, "evaluate"))
        elif timeline.cycle_end_due(step, cycle):
            cycle += 1
            done.append((step, f"teacher {cycle}"))
        else:
            stop = timeline.next_stop(step, cycle)
            assert stop > step
            step = stop
            if timeline.panels_due(step):
                done.append((step, "panels"))
            if timeline.save_due(step, cycle, evaluated_step):
                done.append((step, "save"))
    return done


def test_a_small_run_from_its_first_step_to_its_last():
    assert SMALL.num_steps == 14
    assert events(SMALL) == [
        (2, "save"),
        (4, "evaluate"),
        (6, "panels"),
        (6, "save"),
        (8, "evaluate"),
        (10, "save"),
        (12, "panels"),
        (12, "evaluate"),
        (12, "teacher 1"),
        (14, "evaluate"),
        (14, "teacher 2"),
    ]


def test_a_run_without_cycles_ends_with_an_evaluation():
    timeline = Timeline(
        steps_per_epoch=3,
        num_epochs=5,
        start_epoch=5,
        cycle_epochs=10,
        evaluate_epochs=2,
        save_epochs=4,
        panel_epochs=5,
    )
    assert events(timeline) == [
        (6, "evaluate"),
        (12, "evaluate"),
        (15, "panels"),
        (15, "evaluate"),
    ]


def test_the_papers_run_makes_five_teachers():
    config = default.get_config()
    timeline = Timeline.from_config(config, steps_per_epoch=71)
    assert timeline.num_steps == 14200
    done = events(timeline)
    teachers = [(step / 71, what) for step, what in done if what.startswith("teacher")]
    assert teachers == [
        (160, "teacher 1"),
        (170, "teacher 2"),
        (180, "teacher 3"),
        (190, "teacher 4"),
        (200, "teacher 5"),
    ]
    assert [step / 71 for step, what in done if what == "evaluate"] == list(range(10, 201, 10))
    assert [step / 71 for step, what in done if what == "save"] == [
        epoch for epoch in range(1, 201) if epoch % 10
    ]


@pytest.mark.parametrize(
    ("step", "cycle", "stop"),
    [
        # From the middle of an epoch, as a preempted run goes on.
        (0, 0, 2),
        (1, 0, 2),
        (2, 0, 4),
        (3, 0, 4),
        (11, 0, 12),
        (12, 1, 14),
        (13, 1, 14),
    ],
)
def test_the_next_stop(step, cycle, stop):
    assert SMALL.next_stop(step, cycle) == stop


@pytest.mark.parametrize(
    ("step", "evaluated_step", "due"),
    [
        (0, 0, False),
        (2, 0, False),
        (3, 0, False),
        (4, 0, True),
        (4, 4, False),
        (5, 0, False),
        (6, 4, False),
        (8, 4, True),
        (13, 12, False),
        (14, 12, True),  # The end of the run, though of no second epoch.
        (14, 14, False),
    ],
)
def test_an_evaluation_is_due_once(step, evaluated_step, due):
    assert SMALL.evaluation_due(step, evaluated_step) == due


@pytest.mark.parametrize(
    ("step", "cycle", "due"),
    [(11, 0, False), (12, 0, True), (12, 1, False), (13, 1, False), (14, 1, True), (14, 2, False)],
)
def test_a_cycles_end_is_due_once(step, cycle, due):
    assert SMALL.cycle_end_due(step, cycle) == due


def test_the_steps_at_which_teachers_are_made():
    assert [SMALL.teacher_step(cycle) for cycle in range(3)] == [0, 12, 14]


@pytest.mark.parametrize(
    ("step", "cycle", "evaluated_step", "finished"),
    [
        (14, 2, 14, True),
        (14, 2, 12, False),
        (14, 1, 14, False),
        (13, 2, 12, False),
        (0, 0, 0, False),
    ],
)
def test_a_run_is_finished_when_nothing_is_left(step, cycle, evaluated_step, finished):
    assert SMALL.is_finished(step, cycle, evaluated_step) == finished
