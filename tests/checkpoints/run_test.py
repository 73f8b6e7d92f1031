"""The checkpoints of a run: bit for bit back, what a kill, damage or a full disk leaves."""

import os
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest
from ports import free_port
from small_checkpoints import (
    METADATA,
    assert_same,
    make_state,
    random_variables,
    restore_run,
    save_run,
)

from dmlcsr_jax.checkpoints import model, orbax_private, run
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.errors import UserError

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
    checkpoints.save_best(step, METADATA, state.eval_variables)
    checkpoints.save_teacher(step, METADATA, state.eval_variables)
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
        patch.setattr(orbax_private.Manager, "delete", killed_in_the_middle)
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


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage"])
@pytest.mark.parametrize(
    "file", ["progress/metadata", "train/_METADATA", "train/manifest.ocdbt", "model/_METADATA"]
)
def test_a_damaged_run_is_said_in_one_sentence(tmp_path, kind, file):
    state = make_state(0, 4)
    checkpoints = run.RunCheckpoints(tmp_path, keep=1)
    save_run(checkpoints, state, {"note": 4})
    checkpoints.close()
    path = tmp_path / "checkpoints" / "4"
    if kind == "missing":
        (path / file).unlink()
    else:
        (path / file).write_bytes(b"" if kind == "empty" else bytes(range(64, 192)))
    abstract = jax.eval_shape(lambda: state)
    in_one_piece = sharding.state_sharding(abstract, sharding.make_mesh(), fsdp=False)
    checkpoints = run.RunCheckpoints(tmp_path, keep=1)
    if (kind, file) == ("missing", "model/_METADATA"):
        # The tensors are described by what is asked for.
        assert_same(restore_run(checkpoints, abstract, in_one_piece), state)
        return
    with pytest.raises(UserError, match=f"{path} .*; remove it to go on") as refused:
        checkpoints.read_progress() and restore_run(checkpoints, abstract, in_one_piece)
    assert len(str(refused.value).splitlines()) == 1


def test_a_programming_error_is_not_taken_for_damage(tmp_path, monkeypatch):
    checkpoints = run.RunCheckpoints(tmp_path, keep=1)
    save_run(checkpoints, make_state(0, 4), {})
    checkpoints.wait()

    def faulty(*args, **kwargs):
        raise TypeError("a fault of the program")

    monkeypatch.setattr(orbax_private.Manager, "restore", faulty)
    with pytest.raises(TypeError, match="a fault of the program"):
        checkpoints.read_progress()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "best").write_text("a file in its place")
    with pytest.raises(UserError, match=f"cannot make the folder {tmp_path}/best: "):
        run.RunCheckpoints(tmp_path, keep=1)
