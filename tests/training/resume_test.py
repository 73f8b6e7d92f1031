"""What a run starts from: whose checkpoint is resumed, what of an earlier run is refused."""

import pytest
from dmlcsr_jax.configs import celebamask_hq_wild, default, synthetic
from etils import epath
from small_checkpoints import METADATA, make_state, random_variables, save_run

from dmlcsr_jax import config as config_lib
from dmlcsr_jax.checkpoints.model import newest_in
from dmlcsr_jax.checkpoints.run import RunCheckpoints
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.training import resume
from dmlcsr_jax.training.resume import clear_or_refuse, require_marks

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


def test_every_free_field_exists():
    names = config_lib.flatten(default.get_config())
    for free in resume._FREE_ON_RESUME:
        assert any(name == free or name.startswith(free + ".") for name in names), free


def test_resuming_names_every_field_that_differs():
    config = synthetic.get_config()
    saved = resume.fixed_fields(config, HELEN)
    resume.require_same(saved, saved, "there")
    config.model.width = 0.5
    config.train.num_epochs = 14
    fixed = resume.fixed_fields(config, HELEN)
    with pytest.raises(UserError, match=r"model\.width \(1\.0 there, 0\.5 here\)") as error:
        resume.require_same(saved, fixed, "there")
    assert "train.num_epochs" in str(error.value)


def test_a_run_that_was_begun_under_names_of_before_goes_on():
    fixed = resume.fixed_fields(synthetic.get_config(), HELEN)
    saved = dict(fixed)
    saved["optim.base_rate"] = saved.pop("optim.learning_rate")
    resume.require_same(saved, fixed, "there")


def test_what_leaves_the_parameters_alone_may_change_on_resume():
    config = synthetic.get_config()
    saved = resume.fixed_fields(config, HELEN)
    config.data.num_workers = 5
    config.eval.flip = True
    config.log.every_steps = 3
    config.mesh.fsdp = True
    resume.require_same(saved, resume.fixed_fields(config, HELEN), "there")


def test_a_file_of_class_names_may_not_change_on_resume(tmp_path):
    config, file = synthetic.get_config(), tmp_path / "classes.txt"
    config.data.label_set = str(file)
    file.write_text("background\nl_eye\nr_eye\n")
    there = resume.fixed_fields(config, label_sets.get(file))
    file.write_text("background\nr_eye\nl_eye\n")
    here = resume.fixed_fields(config, label_sets.get(file))
    with pytest.raises(UserError, match=r"label_set\.classes \(\['background', 'l_eye', 'r_eye'\]"):
        resume.require_same(there, here, "there")


def test_a_sources_folder_may_move_and_its_share_may_not():
    config = celebamask_hq_wild.get_config()
    before = resume.fixed_fields(config, label_sets.CELEBAMASK_HQ)
    config.data.sources.lfw.root = "moved"
    assert resume.fixed_fields(config, label_sets.CELEBAMASK_HQ) == before
    config.data.sources.lfw.share = 0.2
    assert resume.fixed_fields(config, label_sets.CELEBAMASK_HQ) != before
