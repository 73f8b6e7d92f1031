"""SIGTERM and Ctrl-C of a lone process, which needs JAX's runtime for them as many do."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROCESS = """
import os, signal, sys, time
from dmlcsr_jax.distributed import interrupt, preemption

interrupt.install()
preemption.start_distributed()
interrupt.save_first()
watch = preemption.PreemptionWatch()
watch.tick()
os.kill(os.getpid(), int(sys.argv[1]))
try:
    for _ in range(200):
        watch.tick()
        time.sleep(0.05)
except preemption.Preempted as stop:
    print(stop, stop.exit_status, flush=True)
if int(sys.argv[1]) == signal.SIGINT:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)
"""

SUSPENDED = """
from dmlcsr_jax.distributed import preemption

preemption._HEARTBEAT_TIMEOUT_SECONDS = 1
preemption.start_distributed()
print("started", flush=True)
print(input(), flush=True)
"""


@pytest.mark.parametrize(
    ("number", "said", "status", "told"),
    [
        (signal.SIGTERM, "preempted 143\n", 0, ""),
        (signal.SIGINT, "interrupted 130\n", 130, "interrupted"),
    ],
)
def test_sigterm_or_the_first_ctrl_c_asks_and_the_second_ends(number, said, status, told):
    result = subprocess.run(
        [sys.executable, "-c", PROCESS, str(int(number))],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == status, result.stderr
    assert result.stdout == said
    assert (result.stderr.splitlines() or [""])[-1] == told


def test_a_lone_process_that_was_suspended_goes_on():
    """By Ctrl-Z, or with the machine, for longer than several processes would wait."""
    with subprocess.Popen(
        [sys.executable, "-c", SUSPENDED],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "started\n"
        for _ in range(3):  # Once is not enough where the heartbeat's thread is the first awake.
            process.send_signal(signal.SIGSTOP)
            time.sleep(2)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.6)
        assert process.communicate("on it goes\n", timeout=60)[0] == "on it goes\n"
    assert process.returncode == 0


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
