"""Ctrl-C at several moments of a real run: the first asks for a save, the second ends at once."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = (
    "--config=synthetic",
    "--config.data.synthetic.train_examples=8",
    "--config.data.synthetic.eval_examples=2",
    "--config.data.synthetic.size=64",
    "--config.data.image_size=48",
    "--config.model.width=0.25",
    "--config.train.batch_size=2",
    "--config.eval.batch_size=2",
    # It does not end by itself.
    "--config.train.num_epochs=90000",
    "--config.csr.start_epoch=90000",
    "--config.eval.every_epochs=90000",
    "--config.log.panels_every_epochs=90000",
)
IGNORING = ("bash", "-c", 'trap "" INT; exec "$@"', "bash")


def start(workdir, *args, before=(), **environment):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | environment
    # JAX sets it where a test has imported JAX.
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.Popen(
        [*before, sys.executable, "-m", "dmlcsr_jax.main", f"--workdir={workdir}", *SMALL, *args],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, process, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.005)


def wait_for_handler(process):
    """Waits for the thread that answers; before it there is only the start of Python itself."""
    tasks = pathlib.Path(f"/proc/{process.pid}/task")
    wait_until(lambda: len(list(tasks.iterdir())) > 1, process)


def finish(process, seconds):
    try:
        return process.communicate(timeout=seconds)[1]
    finally:
        process.kill()


@pytest.mark.parametrize("before", [(), IGNORING], ids=["handled", "ignored"])
def test_before_there_is_anything_to_save_the_first_ends_at_once(tmp_path, before):
    process = start(tmp_path / "run", before=before)
    wait_for_handler(process)
    process.send_signal(signal.SIGINT)
    assert finish(process, 5).strip() == "interrupted"
    assert process.returncode == 130


# Imports, the start of JAX, its first programs, the compilation of the step.
@pytest.mark.parametrize("delay", [0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 4.0, 6.0])
def test_the_second_ends_at_once_whatever_the_run_does(tmp_path, delay):
    process = start(
        tmp_path / "run",
        "--config.model.width=1.0",
        "--config.data.num_workers=1",
        JAX_ENABLE_COMPILATION_CACHE="false",
    )
    wait_for_handler(process)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    said = finish(process, 5)
    assert process.returncode == 130, said
    lines = [line for line in said.splitlines() if line.strip()]
    assert lines[-1] == "interrupted", said
    for word in ("Traceback", "Exception ignored", "Error", "SIGTERM", "reempt", "Fatal"):
        assert word not in said, said


@pytest.mark.parametrize(
    ("number", "status", "word", "other"),
    [(signal.SIGINT, 130, "interrupted", "reempt"), (signal.SIGTERM, 143, "preempted", "interrup")],
)
def test_a_run_that_is_stopped_saves_and_says_by_what(tmp_path, number, status, word, other):
    process = start(tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    wait_until(lambda: any(path.name.isdigit() for path in checkpoints.glob("*")), process)
    process.send_signal(number)
    said = finish(process, 100)
    assert process.returncode == status, said
    assert f"{word}: saving step " in said
    step = said.split(f"{word}: saving step ")[1].split(";")[0]
    assert (checkpoints / step / "model").is_dir()
    assert other not in said
    assert "Traceback" not in said
