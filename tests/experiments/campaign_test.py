"""A campaign: its runs, in order, once each, whatever ends it in between."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from dmlcsr_jax.configs.experiments import base

from dmlcsr_jax import config as config_lib
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.experiments import __main__ as command_line
from dmlcsr_jax.experiments import campaign, record

ROOT = pathlib.Path(__file__).resolve().parents[2]
# In a run's place: leaves what a run leaves.
RUN = """
import json, pathlib, sys
workdir = pathlib.Path(sys.argv[1])
workdir.mkdir(parents=True)
scores = dict.fromkeys(
    ("mean_f1", "miou", "boundary_mean_f1", "image_mean_f1", "worst_tenth_mean_f1"), 0.5)
metrics = scores | {"num_images": 7, "classes": {"nose": {"f1": 0.25}, "hat": {"f1": None}}}
(workdir / "metrics.json").write_text(json.dumps(metrics))
"""


@pytest.fixture(autouse=True)
def photographs(tmp_path, monkeypatch):
    """The folder that the commands name, of a photograph a split."""
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "labels"):
        (tmp_path / "photographs" / folder).mkdir(parents=True)
        (tmp_path / "photographs" / folder / "a.png").touch()
    for split in ("train", "val"):
        (tmp_path / "photographs" / f"{split}_list.txt").write_text("a")


@pytest.fixture
def made(monkeypatch):
    """The runs for which a command was asked; each writes its results."""
    names = []

    def command(name, run, root, workdir):
        names.append(f"{name}/{run}")
        return [sys.executable, "-c", RUN, str(workdir)]

    monkeypatch.setattr(campaign, "command", command)
    return names


def run(tmp_path, name="decoupling"):
    out = tmp_path / "out"
    return campaign.run_campaign(name, "photographs", tmp_path / "work", out), out / name


@pytest.mark.parametrize("name", campaign.NAMES)
def test_every_run_of_every_experiment_has_a_valid_config(name):
    experiment = campaign.open_experiment(name)
    runs = campaign.run_names(experiment)
    assert len(set(runs)) == 3 * len(experiment.RUNS)
    fields = []
    for run_name in runs:
        config = experiment.get_config(run_name)
        config.data.root = "photographs"
        config_lib.validate(config)
        fields.append(json.dumps(record.fields_of(config)))
    assert len(set(fields)) == len(runs)


@pytest.mark.parametrize("name", ["parsing", "parsing-", "parsing-one", "other-0", ""])
def test_a_run_that_there_is_not_is_named(name):
    with pytest.raises(UserError, match=rf"no run '{name}'; give RUN-SEED, RUN one of parsing, "):
        campaign.open_experiment("parts").get_config(name)


def test_runs_of_one_seed_are_paired_and_differ_in_their_fields_alone():
    experiment = campaign.open_experiment("parts")
    without, complete = (
        config_lib.flatten(experiment.get_config(f"{name}-2")) for name in ("parsing", "attention")
    )
    differing = {name for name in complete if complete[name] != without[name]}
    assert complete["seed"] == 2
    assert differing == set(experiment.RUNS["parsing"])


def test_the_moving_average_is_as_old_as_the_students():
    decay = campaign.open_experiment("noise").RUNS["noise0_ema"]["optim.ema_decay"]
    ages = [base.STEPS_PER_EPOCH * cycle for cycle in range(base.NUM_EPOCHS - base.START_EPOCH)]
    weights = [(1 - decay) * decay**age for age in range(20_000)]
    mean_age = sum(age * weight for age, weight in enumerate(weights))
    assert mean_age == pytest.approx(sum(ages) / len(ages), rel=1e-6)


def test_a_campaign_leaves_a_record_of_each_run(tmp_path, made, capsys):
    status, out = run(tmp_path)
    assert status == 0
    assert made == [
        f"decoupling/{name}-{seed}" for seed in range(3) for name in ("decoupled", "fed_back")
    ]
    assert len(list(out.iterdir())) == 6
    content = json.loads((out / "fed_back-1.json").read_text())
    assert content["mean_f1"] == 0.5
    assert content["f1"] == {"nose": 0.25, "hat": None}
    assert content["config"]["model.edge_feedback"] is True
    assert content["config"]["seed"] == 1
    assert "data.root" not in content["config"]
    assert "run 6 of 6, fed_back-2" in capsys.readouterr().out


def test_what_is_made_is_not_made_again(tmp_path, made):
    _, out = run(tmp_path)
    made.clear()
    (out / "decoupled-2.json").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    shutil.rmtree(tmp_path / "work")
    status, _ = run(tmp_path)
    assert (status, made) == (0, ["decoupling/decoupled-2"])
    assert times.items() <= {path.name: path.stat().st_mtime_ns for path in out.iterdir()}.items()


def test_a_run_of_the_same_config_is_taken_from_the_other_experiment(tmp_path, made):
    _, out = run(tmp_path)
    made.clear()
    _, parts = run(tmp_path, "parts")
    assert not [name for name in made if "attention" in name]
    assert (parts / "attention-1.json").read_text() == (out / "decoupled-1.json").read_text()
    assert len(made) == 3 * (len(campaign.open_experiment("parts").RUNS) - 1)


def test_runs_may_be_chosen_by_the_beginning_of_their_names(tmp_path, made):
    out = tmp_path / "out"
    options = ["--root=photographs", f"--workdir={tmp_path / 'work'}", f"--out={out}"]
    assert command_line.main(["noise", *options, "--only=noise40_s"]) == 0
    assert made == [f"noise/noise40_soft-{seed}" for seed in range(3)]
    with pytest.raises(SystemExit):
        command_line.main(["noise", *options, "--only=noise50"])
    assert len(made) == 3


def test_records_are_the_workdirs_and_the_photographs_are_looked_for_first(tmp_path, made):
    work = tmp_path / "work"
    options = [f"--workdir={work}", "--only=decoupled"]
    assert command_line.main(["decoupling", "--root=photographs", *options]) == 0
    assert len(made) == 3
    assert len(list((work / "records" / "decoupling").iterdir())) == 3
    with pytest.raises(UserError, match="'/nowhere' does not exist"):
        campaign.run_campaign("decoupling", "/nowhere", work, work / "records")


def test_a_record_older_than_a_field_is_of_the_fields_default(tmp_path, made):
    _, out = run(tmp_path, "parts")
    path = out / "csr-0.json"
    content = json.loads(path.read_text())
    del content["config"]["csr.restart_factor"]
    path.write_text(json.dumps(content))
    experiment = campaign.open_experiment("parts")
    assert record.find_same(tmp_path / "out", experiment.get_config("csr-0")) == path
    path.with_name("csr_low-0.json").unlink()
    assert record.find_same(tmp_path / "out", experiment.get_config("csr_low-0")) is None


def test_records_of_another_config_and_damaged_ones_are_named(tmp_path, made):
    _, out = run(tmp_path)
    path = out / "decoupled-0.json"
    content = json.loads(path.read_text())
    content["config"]["optim.learning_rate"] = 7.0
    path.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"decoupled-0\.json is of another config: optim\.learning_rate "
    ):
        run(tmp_path)
    content["config"]["optim.learning_rate"] = 1.5e-3
    del content["config"]["csr.restart_factor"]  # A field that is newer than the record.
    path.write_text(json.dumps(content))
    made.clear()
    assert run(tmp_path)[0] == 0
    del content["config"]["optim.learning_rate"]  # Its default is not the run's.
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="of another config: optim"):
        run(tmp_path)
    for damaged in ("{", "[]", "{}", "7"):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"decoupled-0\.json is no record of a run; delete it"):
            run(tmp_path)
    assert not made


def test_a_run_that_fails_ends_the_campaign_with_its_status(tmp_path, monkeypatch):
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(campaign, "command", lambda *_: failing)
    status, out = run(tmp_path)
    assert status == 3
    assert not list(out.iterdir())
    monkeypatch.setattr(campaign, "command", lambda *_: [sys.executable, "-c", ""])
    with pytest.raises(UserError, match=r"left no results in .*metrics\.json; start the campaign"):
        run(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_run_save(tmp_path, number):
    code = """
        import sys, pathlib
        from dmlcsr_jax.experiments import campaign
        child = '''
        import pathlib, signal, sys, time
        def save(*_):
            time.sleep(0.5)
            pathlib.Path("saved").touch()
            sys.exit(143)
        signal.signal(signal.SIGTERM, save)
        pathlib.Path("started").touch()
        time.sleep(60)
        '''
        import textwrap
        campaign.command = lambda *_: [sys.executable, "-c", textwrap.dedent(child)]
        work, out = pathlib.Path("w"), pathlib.Path("o")
        sys.exit(campaign.run_campaign("parts", "photographs", work, out))
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    runner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, env=environment
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    runner.send_signal(number)
    assert runner.wait(timeout=30) == 143
    assert (tmp_path / "saved").exists()


def test_the_command_is_that_of_a_training_run(tmp_path):
    arguments = campaign.command("parts", "csr-1", "a,b", tmp_path)
    assert arguments[1:] == [
        "-m",
        "dmlcsr_jax.main",
        "--config=experiments/parts:csr-1",
        f"--workdir={tmp_path}",
        "--config.data.root=a,b",
    ]


def test_the_command_line_wants_an_experiment(capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main(["other", "--root=x", "--workdir=y"])
    assert stop.value.code == 2
    assert "invalid choice: 'other'" in capsys.readouterr().err
