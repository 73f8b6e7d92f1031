"""Checkpoints: bit for bit back, found by name, refused in one sentence."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from ports import free_port
from small_checkpoints import METADATA, make_state, random_variables, restore_run, save_run

from dmlcsr_jax.checkpoints import model, run
from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.errors import UserError


def assert_same(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, tree, expected)


@pytest.mark.parametrize("crop_margin", [None, 0.25])
def test_metadata_survives_json(crop_margin):
    metadata = dataclasses.replace(METADATA, crop_margin=crop_margin)
    assert Metadata.from_json(json.loads(json.dumps(metadata.to_json()))) == metadata


def test_metadata_of_another_version_is_refused():
    data = METADATA.to_json()
    del data["std"]
    with pytest.raises(UserError, match="std"):
        Metadata.from_json(data)


@pytest.mark.parametrize("edge_branch", [True, False])
def test_a_model_comes_back_bit_for_bit(tmp_path, edge_branch):
    metadata = dataclasses.replace(METADATA, edge_branch=edge_branch)
    variables = random_variables(metadata)
    assert ("edge" in variables["params"]) == edge_branch
    model.save_model(tmp_path / "model", metadata, **variables)
    loaded_metadata, loaded = model.load_model(tmp_path / "model")
    assert loaded_metadata == metadata
    assert_same(loaded, variables)


SAVE_EVERYTHING_AT_ONCE = """
import sys

import jax
import numpy as np
import optax

from dmlcsr_jax.checkpoints import run
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.training.state import TrainState
from small_checkpoints import METADATA, random_variables, save_run

port, index, workdir = sys.argv[1:]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(index))
state = TrainState.create(random_variables(METADATA), optax.sgd(0.1, momentum=0.9))
replicate = jax.jit(lambda tree: tree, out_shardings=sharding.replicated(sharding.make_mesh()))
state = replicate(jax.tree.map(np.asarray, state))
checkpoints = run.RunCheckpoints(workdir, keep=2)
for step in range(1, 4):
    save_run(checkpoints, state.replace(step=replicate(np.int32(step))), {})
    checkpoints.save_best(step, METADATA, state.student)
    checkpoints.save_teacher(step, METADATA, state.student)
checkpoints.close()
"""


def test_two_processes_save_the_run_the_best_and_the_teacher_at_once(tmp_path, pytestconfig):
    """None waits at the barriers of another's save."""
    port = free_port()
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "PYTHONPATH": str(pytestconfig.rootpath / "tests"),
        "XLA_FLAGS": "",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAVE_EVERYTHING_AT_ONCE, str(port), str(index), str(tmp_path)],
            env=environment,
        )
        for index in range(2)
    ]
    try:
        assert [process.wait(120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    for name, steps in (("checkpoints", {2, 3}), ("best", {3}), ("teachers", {1, 2, 3})):
        assert {int(path.name) for path in (tmp_path / name).iterdir()} == steps
        assert_same(model.load_model(tmp_path / name)[1], random_variables(METADATA))


def test_a_model_is_not_overwritten(tmp_path):
    variables = random_variables(METADATA)
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="exists already"):
        model.save_model(tmp_path / "model", METADATA, **variables)


def test_a_model_of_another_class_count_is_refused_by_its_tensor(tmp_path):
    variables = random_variables(METADATA)
    other = dataclasses.replace(METADATA, label_set=label_sets.get("celebamask_hq"))
    with pytest.raises(UserError, match=r"params/edge/binary_logits/kernel .*33, 2.*57, 2"):
        model.save_model(tmp_path / "model", other, **variables)
    assert not (tmp_path / "model").exists()


def test_missing_and_extra_tensors_are_named(tmp_path):
    without = model.abstract_variables(dataclasses.replace(METADATA, edge_branch=False))
    whole = model.abstract_variables(METADATA)
    with pytest.raises(UserError, match=r"lacks the tensor .*edge"):
        model.require_same_shapes(without, whole, "it")
    with pytest.raises(UserError, match=r"has the tensor .*edge"):
        model.require_same_shapes(whole, without, "it")


def test_a_run_comes_back_bit_for_bit_with_its_progress(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path, keep=2)
    assert checkpoints.read_progress() is None
    for step in (3, 5, 9):
        save_run(checkpoints, make_state(step, step), {"note": step})
        checkpoints.wait()
    replaced = make_state(100, 9)
    save_run(checkpoints, replaced, {"note": "again"})
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["5", "9"]

    checkpoints = run.RunCheckpoints(tmp_path, keep=2)
    assert checkpoints.latest_step() == 9
    assert checkpoints.read_progress() == {"note": "again"}
    mesh = sharding.make_mesh()
    abstract = jax.eval_shape(lambda: replaced)
    for fsdp in (False, True):
        restored = restore_run(
            checkpoints, abstract, sharding.state_sharding(abstract, mesh, fsdp=fsdp)
        )
        assert_same(restored, replaced)
    checkpoints.close()


def test_a_kill_while_a_checkpoint_is_replaced_leaves_the_one_before_it(tmp_path, monkeypatch):
    checkpoints = run.RunCheckpoints(tmp_path, keep=2)
    states = {step: make_state(step, step) for step in (4, 8)}
    for step, state in states.items():
        save_run(checkpoints, state, {"note": step})
    checkpoints.wait()

    def killed_in_the_middle(manager, step):
        [replaced] = pathlib.Path(manager.directory).glob(f"{step}*")
        next(path for path in sorted(replaced.rglob("*")) if path.is_file()).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run._Manager, "delete", killed_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            save_run(checkpoints, states[8], {"note": "again"})
    assert model.resolve("latest", tmp_path).name == "4"

    checkpoints = run.RunCheckpoints(tmp_path, keep=2)
    assert checkpoints.read_progress() == {"note": 4}
    abstract = jax.eval_shape(lambda: states[4])
    in_one_piece = sharding.state_sharding(abstract, sharding.make_mesh(), fsdp=False)
    assert_same(restore_run(checkpoints, abstract, in_one_piece), states[4])
    save_run(checkpoints, states[8], {"note": 8})
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4", "8"]


def test_checkpoints_are_found_by_name_and_by_path(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path, keep=1)
    save_run(checkpoints, make_state(0, 4), {})
    with pytest.raises(UserError, match="best"):
        model.resolve("best", tmp_path)
    models = {name: random_variables(METADATA, seed) for seed, name in enumerate("abc")}
    checkpoints.save_best(4, METADATA, models["a"])
    checkpoints.save_teacher(1, METADATA, models["b"])
    checkpoints.save_teacher(2, METADATA, models["c"])
    checkpoints.close()

    def loaded(name, workdir=tmp_path):
        return model.load_model(name, workdir)[1]

    assert_same(loaded("latest"), make_state(0, 4).student)
    assert_same(loaded("best"), models["a"])
    assert_same(loaded("teacher:1"), models["b"])
    assert_same(loaded("teacher"), models["c"])
    assert_same(loaded(str(tmp_path), None), models["c"])
    assert_same(loaded(str(tmp_path / "best"), None), models["a"])
    assert_same(loaded(str(tmp_path / "teachers" / "1"), None), models["b"])
    for wrong in ("teacher:3", "teacher:0", str(tmp_path / "nowhere"), "."):
        with pytest.raises(UserError):
            loaded(wrong)


def test_half_written_and_damaged_checkpoints_are_not_loaded(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path, keep=3)
    save_run(checkpoints, make_state(0, 4), {})
    checkpoints.close()
    # What a killed save leaves behind.
    shutil.copytree(
        tmp_path / "checkpoints" / "4", tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp-1"
    )
    assert run.RunCheckpoints(tmp_path, keep=3).latest_step() == 4
    assert model.resolve("latest", tmp_path).name == "4"
    for path in (tmp_path / "checkpoints" / "4" / "model").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="checkpoints/4"):
        model.load_model("latest", tmp_path)
