"""What a run's checkpoint says of its progress is checked before it is believed."""

import pytest

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.training.outputs import require_marks

MARKS = {"config": {}, "data": {"num_examples": 3}, "evaluated_step": 4, "best_mean_f1": -1.0}


def test_what_a_run_writes_is_taken():
    require_marks(MARKS, "run/checkpoints/4")


@pytest.mark.parametrize(
    ("marks", "named"),
    [
        (None, "config, data, evaluated_step, best_mean_f1"),
        ([], "config"),
        (MARKS | {"config": 1}, "config"),
        (MARKS | {"data": {}}, "data"),
        (MARKS | {"data": {"num_examples": "3"}}, "data"),
        (MARKS | {"evaluated_step": "4"}, "evaluated_step"),
        (MARKS | {"best_mean_f1": None}, "best_mean_f1"),
        (MARKS | {"more": 1}, "more"),
    ],
)
def test_all_else_is_refused_by_name(marks, named):
    with pytest.raises(UserError, match=rf"run/checkpoints/4 says in `progress` .*\({named}"):
        require_marks(marks, "run/checkpoints/4")
