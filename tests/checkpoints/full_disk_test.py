"""A full disk: one sentence, and nothing of what background threads print of it."""

import os
import re
import subprocess
import sys

import pytest

SAVE_RUNS = """
import itertools
import sys

from dmlcsr_jax.checkpoints import run
from dmlcsr_jax.errors import exit_on_user_error
from small_checkpoints import make_state, save_run


@exit_on_user_error
def main():
    checkpoints = run.RunCheckpoints(sys.argv[1], keep=100)
    for step in itertools.count(1):
        save_run(checkpoints, make_state(step, step), {})
        checkpoints.wait()


main()
"""
SAVE_MODELS = """
import itertools
import pathlib
import sys

from dmlcsr_jax.checkpoints.model import save_model
from dmlcsr_jax.errors import exit_on_user_error
from small_checkpoints import METADATA, random_variables


@exit_on_user_error
def main():
    for number in itertools.count(1):
        save_model(f"{sys.argv[1]}{number}", METADATA, **random_variables(METADATA))


try:
    main()
finally:
    print(*pathlib.Path(sys.argv[1]).parent.iterdir())
"""


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            SAVE_RUNS,
            r"cannot save a checkpoint in {run}: No space left on device; that of step \d is the "
            r"newest that is complete: make room and start again\.",
        ),
        (SAVE_MODELS, r"cannot write {run}\d+: No space left on device; make room\."),
    ],
    ids=["run", "model"],
)
def test_a_full_disk_is_said_in_one_sentence(tmp_path, pytestconfig, program, sentence):
    """In a namespace of its own, on a small disk."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("unshare may not make a mount namespace here")
    command = f'mount -t tmpfs -o size=2500k none {tmp_path}; exec "$@"'
    python = [sys.executable, "-c", program, str(tmp_path / "run")]
    tests = str(pytestconfig.rootpath / "tests")
    result = subprocess.run(
        ["unshare", "-rm", "bash", "-c", command, "bash", *python],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": tests},
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 1, result.stderr
    sentence = sentence.format(run=re.escape(str(tmp_path / "run")))
    assert re.fullmatch(f"error: {sentence}\n", result.stderr), result.stderr
    if program == SAVE_MODELS:
        assert "orbax-checkpoint-tmp" not in result.stdout
