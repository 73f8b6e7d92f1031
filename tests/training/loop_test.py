"""A small run of the real command line: what it says, and what it leaves when it is refused."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import cv2
import jax
import numpy as np
import pytest

from dmlcsr_jax.checkpoints.model import load_model, resolve
from dmlcsr_jax.data import label_sets

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Two epochs of one step, the second a cycle of its own.
SMALL = (
    "--config.data.synthetic.train_examples=4",
    "--config.data.synthetic.eval_examples=2",
    "--config.data.synthetic.size=32",
    "--config.data.image_size=32",
    "--config.model.width=0.25",
    "--config.train.batch_size=4",
    "--config.eval.batch_size=2",
    "--config.train.num_epochs=2",
    "--config.optim.warmup_epochs=0",
    "--config.csr.start_epoch=1",
    "--config.csr.cycle_epochs=1",
    "--config.eval.every_epochs=1",
)
CACHE = tempfile.TemporaryDirectory()
# Ends as by SIGKILL, when the first best model is saved and nothing after it.
KILLED = """
import os, runpy
from dmlcsr_jax.checkpoints.run import RunCheckpoints

save_best = RunCheckpoints.save_best

def save_and_die(self, *args):
    save_best(self, *args)
    self.wait()
    os._exit(9)

RunCheckpoints.save_best = save_and_die
runpy.run_module("dmlcsr_jax.main", run_name="__main__", alter_sys=True)
"""
# Counts the managers of checkpoints that are open at the end.
COUNTED = """
import runpy
import orbax.checkpoint as ocp

opened, closed = [], []
init, close = ocp.CheckpointManager.__init__, ocp.CheckpointManager.close

def counting_init(self, *args, **kwargs):
    opened.append(self)
    init(self, *args, **kwargs)

def counting_close(self):
    closed.append(self)
    close(self)

ocp.CheckpointManager.__init__, ocp.CheckpointManager.close = counting_init, counting_close
try:
    runpy.run_module("dmlcsr_jax.main", run_name="__main__", alter_sys=True)
finally:
    print(f"left open: {len(set(opened) - set(closed))}")
"""
# Has no step by soft targets.
HARD = """
import dataclasses, runpy
from dmlcsr_jax.training import loop

make_programs = loop.make_programs
loop.make_programs = lambda *args: dataclasses.replace(make_programs(*args), soft_step=None)
runpy.run_module("dmlcsr_jax.main", run_name="__main__", alter_sys=True)
"""


def start(workdir, *args, program=COUNTED, config="configs/synthetic.py"):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": CACHE.name,
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }
    return subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            f"--config={config}",
            *SMALL,
            f"--workdir={workdir}",
            *args,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def files(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    result = start(workdir)
    assert result.returncode == 0, result.stderr
    return workdir, result


def test_the_bar_says_that_a_program_is_compiled(finished):
    _, result = finished
    bar = result.stderr.replace("\r", "\n").splitlines()
    said = [line for line in bar if line.startswith("train:")]
    assert any("0/2" in line and "compiling" in line for line in said), bar
    assert "2/2" in said[-1]
    assert "loss" in said[-1]
    assert "compiling" not in said[-1]


def test_a_run_closes_what_it_has_opened(finished):
    assert "left open: 0" in finished[1].stdout


def test_a_finished_run_started_again_leaves_no_trace(finished):
    workdir, _ = finished
    before = files(workdir)
    result = start(workdir)
    assert result.returncode == 0
    assert "finished" in result.stderr
    assert "left open: 0" in result.stdout
    assert files(workdir) == before


def test_a_run_begun_anew_beside_the_models_of_an_earlier_one_is_refused(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "checkpoints").mkdir()
    before = files(workdir)
    result = start(workdir)
    assert result.returncode == 1
    [error] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    for word in (str(workdir), "best", "teachers", "metrics.json"):
        assert word in error
    assert files(workdir) == before


def test_a_run_killed_after_its_first_best_model_goes_on(finished, tmp_path):
    """Every epoch ends in an evaluation: the first save comes before it, or this is refused."""
    assert start(tmp_path, program=KILLED).returncode == 9
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["1"]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    result = start(tmp_path)
    assert result.returncode == 0, result.stderr
    for name in ("metrics.json", "table.txt"):
        assert (tmp_path / name).read_text() == (finished[0] / name).read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        "--config.model.init_from=/nowhere/checkpoint",
        "--config.model.pretrained=/nowhere/weights.pth",
        "--config.train.batch_size=5",
    ],
)
def test_a_refused_run_leaves_no_folder(tmp_path, wrong):
    result = start(tmp_path / "run", wrong)
    assert result.returncode == 1
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_cycles_may_keep_hard_labels_and_the_last_student(tmp_path):
    options = ("--config.train.num_epochs=3", "--config.csr.average=False")
    result = start(tmp_path, *options, "--config.csr.soft_targets=False", program=HARD)
    assert result.returncode == 0, result.stderr
    _, teacher = load_model(resolve("teacher:2", tmp_path))
    _, student = load_model(resolve("latest", tmp_path))
    _, first = load_model(resolve("teacher:1", tmp_path))
    jax.tree.map(np.testing.assert_array_equal, teacher["params"], student["params"])
    assert (_logits(first) != _logits(teacher)).any()


def _logits(variables):
    return variables["params"]["parsing"]["logits"]["kernel"]


def test_sources_with_other_labels_train_beside_the_first(tmp_path):
    """Through a cycle, so that both teachers meet groups; the losses are on the record."""
    config = tmp_path / "mixed.py"
    config.write_text(
        "from dmlcsr_jax.configs import default, synthetic\n"
        "def get_config():\n"
        "    config = synthetic.get_config()\n"
        "    config.data.sources.halves = default.source(0.5)\n"
        f"    config.data.sources.halves.root = {str(tmp_path / 'halves')!r}\n"
        f"    config.data.sources.halves.label_set = {str(tmp_path / 'halves.json')!r}\n"
        "    config.data.sources.plain = default.source(0.25)\n"
        "    config.data.sources.plain.kind = 'images'\n"
        f"    config.data.sources.plain.root = {str(tmp_path / 'halves')!r}\n"
        "    config.loss.weights.consistency = 1.0\n"
        "    config.loss.confidence = 0.0\n"
        "    config.optim.average_decay = 0.5\n"
        "    return config\n"
    )
    helen = label_sets.HELEN
    halves = label_sets.LabelSet(
        "halves", ("a", "b"), (), "none", ((0, 0, 0), (9, 9, 9)), {}, 255, helen.name,
        {"a": helen.classes[:4], "b": helen.classes[4:]},
    )  # fmt: skip
    (tmp_path / "halves.json").write_text(json.dumps(halves.to_json()))
    for part in ("images", "labels"):
        (tmp_path / "halves" / part).mkdir(parents=True)
    (tmp_path / "halves" / "train_list.txt").write_text("x")
    cv2.imwrite(str(tmp_path / "halves/images/x.png"), np.zeros((32, 32, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "halves/labels/x.png"), np.eye(32, dtype=np.uint8))
    result = start(tmp_path / "run", "--config.log.every_steps=1", config=config)
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "run" / "scalars.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if "marginal" in record]
    assert len(records) == 8  # twice the steps that half of each batch would have
    assert all(0 <= record[name] < 10 for record in records for name in ("marginal", "consistency"))
    assert all(any(record[name] > 0 for record in records) for name in ("marginal", "consistency"))
