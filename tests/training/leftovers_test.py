"""What an earlier run has left is refused, or removed where a kill explains it."""

import pytest
from etils import epath
from small_checkpoints import METADATA, make_state, random_variables, save_run

from dmlcsr_jax.checkpoints.model import newest_in
from dmlcsr_jax.checkpoints.run import RunCheckpoints
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.training.leftovers import clear_or_refuse


def leave_models(workdir):
    checkpoints = RunCheckpoints(workdir, keep=2)
    checkpoints.save_best(4, METADATA, random_variables(METADATA))
    checkpoints.save_teacher(1, METADATA, random_variables(METADATA))
    checkpoints.close()


def test_a_new_workdir_and_an_empty_one_pass(tmp_path):
    clear_or_refuse(epath.Path(tmp_path / "new"))
    for name in ("checkpoints", "best", "teachers"):
        (tmp_path / name).mkdir()
    clear_or_refuse(epath.Path(tmp_path))


def test_models_of_an_earlier_run_are_named_and_stay(tmp_path):
    leave_models(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path} holds no checkpoint .* best and teachers of"):
        clear_or_refuse(epath.Path(tmp_path))
    assert newest_in(tmp_path / "best").name == "4"
    assert newest_in(tmp_path / "teachers").name == "1"


def test_results_of_an_earlier_run_are_named(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match=r"metrics\.json"):
        clear_or_refuse(epath.Path(tmp_path))


def test_a_run_killed_while_it_replaced_its_first_checkpoint_begins_anew(tmp_path):
    leave_models(tmp_path)
    checkpoints = RunCheckpoints(tmp_path, keep=2)
    save_run(checkpoints, make_state(0, 4), {})
    checkpoints.close()
    complete = tmp_path / "checkpoints" / "4"
    complete.rename(complete.with_name("4.orbax-checkpoint-tmp"))
    assert newest_in(tmp_path / "checkpoints") is None
    clear_or_refuse(epath.Path(tmp_path))
    assert newest_in(tmp_path / "best") is None
    assert newest_in(tmp_path / "teachers") is None
    RunCheckpoints(tmp_path, keep=2).close()
    clear_or_refuse(epath.Path(tmp_path))
