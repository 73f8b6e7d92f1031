"""The real command line, in processes of its own."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from dmlcsr_jax.configs import synthetic

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.data import augmentation, label_sets, sources
from dmlcsr_jax.data import batches as batches_lib

ROOT = pathlib.Path(__file__).parents[1]
# One epoch is 4 steps; epochs 0-1 warm up and decay, then two cycles of one epoch each.
SMALL = (
    "--config.data.synthetic.train_examples=18",
    "--config.data.synthetic.eval_examples=5",
    "--config.data.synthetic.size=64",
    "--config.data.image_size=48",
    "--config.data.num_workers=0",
    "--config.model.width=0.25",
    "--config.train.batch_size=4",
    "--config.eval.batch_size=2",
    "--config.train.num_epochs=4",
    "--config.optim.warmup_epochs=1",
    "--config.csr.start_epoch=2",
    "--config.csr.cycle_epochs=1",
    "--config.eval.every_epochs=2",
    "--config.log.every_steps=1",
    "--config.log.panels_every_epochs=2",
    "--config.log.panel_images=2",
)


# Compiling is most of the time of so small a run, and the same in each.
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
CACHE = tempfile.TemporaryDirectory()


def main(*args, config="configs/synthetic.py", check=True, cwd=ROOT):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": QUICK_COMPILATION,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": CACHE.name,
    }
    result = subprocess.run(
        [sys.executable, "-m", "dmlcsr_jax.main", f"--config={config}", *map(str, args)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result


def read_tree(path):
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(path.absolute())


def assert_same_run(first, second):
    for item in ("model", "train"):
        a, b = (read_tree(run / "checkpoints" / "16" / item) for run in (first, second))
        assert jax.tree.structure(a) == jax.tree.structure(b)
        jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, main(f"--workdir={workdir}", *SMALL)


def test_a_run_leaves_checkpoints_tables_and_pictures(finished_run):
    workdir, result = finished_run
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["12", "16"]
    assert sorted(path.name for path in (workdir / "teachers").iterdir()) == ["1", "2"]
    assert len(list((workdir / "best").iterdir())) == 1
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["checkpoint"] == "teachers/2"
    assert metrics["num_images"] == 5
    assert "left_brow" in result.stdout
    for picture in ("confusion.png", "worst.png"):
        assert (workdir / picture).read_bytes().startswith(b"\x89PNG")
    assert list((workdir / "tensorboard").iterdir())


def test_every_step_and_evaluation_is_recorded_once(finished_run):
    workdir, _ = finished_run
    records = [json.loads(line) for line in (workdir / "scalars.jsonl").read_text().splitlines()]
    steps = {
        kind: [r["step"] for r in records if r["kind"] == kind]
        for kind in ("train", "student", "teacher")
    }
    assert steps == {"train": list(range(1, 17)), "student": [8, 16], "teacher": [12, 16]}
    terms = {
        "loss",
        "cross_entropy",
        "lovasz",
        "binary_edge",
        "category_edge",
        "attention_binary",
        "attention_category",
        "learning_rate",
        "grad_norm",
    }
    assert all(terms <= set(record) for record in records if record["kind"] == "train")


def test_evaluation_of_a_checkpoint_gives_the_runs_figures(finished_run, tmp_path):
    workdir, _ = finished_run
    records = [json.loads(line) for line in (workdir / "scalars.jsonl").read_text().splitlines()]
    by_kind = {(r["kind"], r["step"]): r["mean_f1"] for r in records if "mean_f1" in r}
    for checkpoint, expected in (
        ("latest", by_kind["student", 16]),
        ("teacher:1", by_kind["teacher", 12]),
        (workdir / "teachers" / "2", by_kind["teacher", 16]),
        ("best", max(by_kind.values())),
    ):
        main(f"--workdir={workdir}", "--mode=eval", f"--checkpoint={checkpoint}", *SMALL)
        name = str(checkpoint).replace(":", "_").replace("/", "_").strip("_") + "_helen_test"
        metrics = json.loads((workdir / "eval" / name / "metrics.json").read_text())
        assert metrics["mean_f1"] == pytest.approx(expected, abs=1e-12)


def test_a_finished_run_says_so_and_stays(finished_run):
    workdir, _ = finished_run
    before = {p: p.stat().st_mtime_ns for p in (workdir / "checkpoints").rglob("*") if p.is_file()}
    result = main(f"--workdir={workdir}", *SMALL)
    assert "finished" in result.stderr
    after = {p: p.stat().st_mtime_ns for p in (workdir / "checkpoints").rglob("*") if p.is_file()}
    assert before == after


@pytest.mark.slow
def test_two_runs_of_one_seed_end_in_the_same_parameters(finished_run, tmp_path):
    main(f"--workdir={tmp_path}", *SMALL, "--config.data.num_workers=1")
    assert_same_run(finished_run[0], tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run_with_its_batch(finished_run, tmp_path):
    metadata, variables = model.load_model(finished_run[0] / "teachers" / "2")
    logits = variables["params"]["parsing"]["logits"]
    # Finite, as a checkpoint's weights must be; their sums are not.
    logits["kernel"] = np.full_like(logits["kernel"], 3e38)
    model.save_model(tmp_path / "broken", metadata, **variables)
    workdir = tmp_path / "run"
    broken = f"--config.model.init_from={tmp_path / 'broken'}"
    result = main(f"--workdir={workdir}", *SMALL, broken, check=False)
    assert result.returncode == 1
    [error] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "step 1 " in error
    assert re.search(r"\bbinary_edge \d.*\bcross_entropy nan\b", error), error
    assert not any((workdir / "checkpoints").glob("*"))
    [path] = workdir.glob("*.npz")
    assert str(path) in error
    config, label_set = synthetic.get_config(), label_sets.HELEN
    faces = sources.open_synthetic("train", label_set, num_examples=18, size=64, seed=config.seed)
    with batches_lib.train_batches(
        faces,
        label_set=label_set,
        image_size=48,
        augmentation=augmentation.Augmentation(**config.augmentation),
        batch_size=4,
        seed=config.seed,
    ) as batches:
        first = next(batches)
    with np.load(path) as saved:
        for name, values in first.items():
            np.testing.assert_array_equal(saved[name], values)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--config.model.encoder=vgg"], ["model.encoder", "vgg", "resnet101"]),
        (["--config.model.enkoder=tiny"], ["error: the config has no field 'enkoder'", "encoder"]),
        (
            ["--config.model.enkoder=tiny", "--config.sead=1", "--config.enkoder.width=2"],
            [
                "no field 'enkoder'; did you mean 'encoder'? It has no field 'sead'; did",
                "'enkoder'.",
            ],
        ),
        (["--config.enkoder.width=2"], ["error: the config has no field 'enkoder'."]),
        (["--config.optim.base_rate=1"], ["config.optim.base_rate is called config.optim.learn"]),
        (["--config.eval.scales=1.0,abc"], ["eval.scales", "1.0,abc"]),
        (["--config.csr.start_epoch=9", "--config.seed=-1"], ["csr.start_epoch", "seed"]),
        (["--workdir=/dev/null"], ["cannot make the folder /dev/null: "]),
        (["--workdir=/dev/null/run"], ["cannot make the folder /dev/null/run: "]),
        (["--config=nowhere.py"], ["'nowhere.py'", "helen"]),
        (["--config=nowhere"], ["'nowhere'", "helen"]),
        (["--config.train.batch_size=nine"], ["batch_size"]),
        (["--config.train.batch_size=19"], ["train.batch_size", "18"]),
        (["--mode=evaluate"], ["mode", "evaluate"]),
        (["--mode=eval", "--checkpoint=best"], ["best"]),
        (["--workdirr=x"], ["workdirr"]),
        (["--num_processes=2"], ["coordinator_address"]),
        (
            ["--config.data.source=folder", "--config.data.root=/nowhere/faces"],
            ["/nowhere/faces"],
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, args, words):
    result = main(f"--workdir={tmp_path / 'run'}", *SMALL, *args, check=False)
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert all(word in errors[0] for word in words), errors[0]
    assert "Traceback" not in result.stderr


MINE = """from dmlcsr_jax.configs import default

def get_config(encoder="tiny"):
    config = default.get_config()
    config.data.source = "synthetic"
    config.data.label_set = "helen"
    config.model.encoder = encoder
    {}
    return config
"""


@pytest.mark.parametrize("config", ["synthetic", "configs/synthetic.py", "mine.py", "mine.py:tiny"])
def test_configs_are_found_from_any_folder(tmp_path, config):
    (tmp_path / "mine.py").write_text(MINE.format(""))
    wrong = "--config.optim.momentum=7.0"
    result = main(f"--workdir={tmp_path}", wrong, config=config, check=False, cwd=tmp_path)
    assert result.stderr.splitlines()[-1].startswith("error: config.optim.momentum is 7.0; ")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("config.model.width.real.x = 2", "AttributeError"),
        ("config.seed = 'one'", "TypeError"),
        ("config.sead = 1", "AttributeError"),
        ("open('/nowhere/there')", "FileNotFoundError"),
        ("{}['key']", "KeyError"),
    ],
)
def test_an_error_in_a_config_keeps_its_traceback(tmp_path, line, error):
    (tmp_path / "mine.py").write_text(MINE.format("config.lock(); " + line))
    result = main(f"--workdir={tmp_path}", config="mine.py", check=False, cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert 'mine.py", line 8, in get_config' in result.stderr
    assert f"\n{error}: " in result.stderr


def test_what_has_failed_ends_at_once_whatever_threads_wait_for():
    """As after a failed save, of which Orbax leaves threads that wait for minutes."""
    program = (
        "import threading\n"
        "from dmlcsr_jax import main\n"
        "threading.Thread(target=threading.Event().wait, args=(60,)).start()\n"
        "main.run()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "--config=nowhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert result.returncode == 1
    assert "there is no config 'nowhere'" in result.stderr
