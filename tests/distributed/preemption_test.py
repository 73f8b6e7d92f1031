"""SIGTERM and Ctrl-C of a lone process, which needs JAX's runtime for them as many do."""

import os
import signal
import subprocess
import sys

import pytest

PROCESS = """
import os, signal, sys, time
from dmlcsr_jax.distributed import preemption

preemption.start_distributed()
watch = preemption.PreemptionWatch()
watch.tick()
os.kill(os.getpid(), int(sys.argv[1]))
try:
    for _ in range(200):
        watch.tick()
        time.sleep(0.05)
except preemption.Preempted:
    print("preempted", flush=True)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGTERM, ["preempted"]), (signal.SIGINT, ["preempted", "interrupted"])],
)
def test_sigterm_or_the_first_ctrl_c_asks_and_the_second_ends(number, said):
    result = subprocess.run(
        [sys.executable, "-c", PROCESS, str(int(number))],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == said


def test_a_cluster_that_is_not_there_ends_in_a_sentence():
    result = subprocess.run(
        [
            *(sys.executable, "-m", "dmlcsr_jax.main"),
            *("--config=configs/synthetic.py", "--workdir=x", "--distributed"),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: no cluster was found")
    assert result.stderr.count("\n") == 1
