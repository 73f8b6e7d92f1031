"""Runs that lose one of their processes: real ones, in JAX's runtime, doing next to nothing."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Each adds up a number of each process, ten times a second, until its fate overtakes it.
PROCESS = """
import os, signal, sys, time
import jax, jax.numpy as jnp, numpy as np
from dmlcsr_jax.distributed import preemption, sharding, watchdog
from dmlcsr_jax.errors import UserError

watchdog._SILENCE_SECONDS, watchdog._BEAT_SECONDS = 8.0, 0.3  # 30 and 1 in earnest
port, count, index, fate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if fate == "ends while looking":
    watchdog._BEAT_SECONDS = 0.0  # always inside JAX's runtime
if fate == "goes on beside a frozen one":
    preemption._HEARTBEAT_TIMEOUT_SECONDS = 20  # forty in earnest
if fate == "waits":
    preemption._START_SECONDS = 3
if fate == "is not there":
    sys.exit()
preemption.start_distributed(f"127.0.0.1:{port}", count, index)
signal.signal(signal.SIGINT, signal.default_int_handler)
mesh = sharding.make_mesh()
add = jax.jit(jnp.sum, out_shardings=sharding.replicated(mesh))
with watchdog.watched():
    for step in range(10 if fate.startswith("ends") else 10**6):
        batch = sharding.put_batch(np.full((1,), index, np.float32), mesh)
        assert float(add(batch)) == count * (count - 1) / 2
        time.sleep(0.1)
        if step == 5:
            print("up", flush=True)
            if fate == "dies":
                os.kill(os.getpid(), 9)
            if fate == "freezes":
                os.kill(os.getpid(), signal.SIGSTOP)
            if fate == "user error":
                raise UserError("the file faces.png is broken.")
            if fate == "error":
                raise RuntimeError("a mistake")
            if fate == "is aborted":
                os.kill(os.getpid(), 6)
            if fate.startswith("aborts"):
                import ctypes
                # PyDLL keeps Python's lock.
                (ctypes.PyDLL if fate.endswith("Python's lock") else ctypes.CDLL)(None).abort()
            if fate == "is interrupted":
                os.kill(os.getpid(), 2)
    if fate == "ends late":
        time.sleep(4)
print("out", flush=True)
"""


def run(*fates, frozen=None):
    """Returns, for each process, exit status, output, and when it was over, seconds.

    A frozen one is killed when the others are over.
    """
    port = free_port()
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "XLA_FLAGS": "",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(port), str(len(fates)), str(index), fate],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index, fate in enumerate(fates)
    ]
    over = {}
    end = time.monotonic() + 180
    try:
        while len(over) < len(fates):
            assert time.monotonic() < end, "a process hangs"
            if len(over) == len(fates) - 1 and frozen is not None:
                processes[frozen].kill()
            for index, process in enumerate(processes):
                if index not in over and process.poll() is not None:
                    over[index] = time.monotonic()
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, process.communicate()[0], over[index])
        for index, process in enumerate(processes)
    ]


@pytest.mark.parametrize(
    "fates",
    [("ends", "ends late"), ("ends late", "ends"), ("ends",), ("ends while looking",) * 2],
)
def test_processes_that_end_at_different_times_end_well(fates):
    for status, output, _ in run(*fates):
        assert status == 0, output
        assert output.endswith("out\n")


@pytest.mark.parametrize(
    ("dying", "count"), [(0, 2), (1, 2), pytest.param(2, 3, marks=pytest.mark.slow)]
)
def test_the_others_name_the_one_that_died(dying, count):
    fates = ["goes on"] * count
    fates[dying] = "dies"
    results = run(*fates)
    assert results[dying][0] == -signal.SIGKILL
    for index, (status, output, over) in enumerate(results):
        if index != dying:
            assert status == 1, output
            assert re.search(rf"^error: process {dying} has died.*start it again", output, re.M)
            assert over - results[dying][2] < 60


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [0, 1])
def test_the_others_name_the_one_whose_machine_freezes(frozen):
    """Its connections stay open, and nothing comes through them."""
    fates = ["goes on beside a frozen one"] * 2
    fates[frozen] = "freezes"
    status, output, _ = run(*fates, frozen=frozen)[1 - frozen]
    assert status == 1, output
    assert re.search(rf"^error: process {frozen} has died, or its machine", output, re.M), output


@pytest.mark.parametrize("failing", [0, 1])
def test_the_others_name_the_one_that_failed_and_why(failing):
    fates = ["goes on"] * 2
    fates[failing] = "user error"
    results = run(*fates)
    for status, output, over in results:
        assert status == 1, output
        assert over - results[failing][2] < 30
        assert "Traceback" not in output
    assert "error: the file faces.png is broken.\n" in results[failing][1]
    assert (
        f"error: process {failing} has failed (the file faces.png is broken); this one stops"
        in results[1 - failing][1]
    )


def test_a_mistake_in_the_program_is_shown_where_it_happened():
    (status, output, _), (other_status, other_output, _) = run("goes on", "error")
    assert other_status == status == 1
    assert "Traceback" in other_output
    assert "error: RuntimeError: a mistake\n" in other_output
    assert "error: process 1 has failed (RuntimeError: a mistake); this one stops" in output


def test_the_others_end_with_one_that_is_interrupted():
    (status, output, _), (other_status, other_output, _) = run("is interrupted", "goes on")
    assert status == other_status == 1
    assert "error: interrupted\n" in output
    assert "Traceback" not in output
    assert "error: process 0 has failed (interrupted); this one stops" in other_output


@pytest.mark.parametrize(
    "fate",
    ["is aborted", pytest.param("aborts", marks=pytest.mark.slow), "aborts with Python's lock"],
)
def test_an_abort_ends_the_process_whatever_it_holds(fate):
    began = time.monotonic()
    (status, output, _), (aborted, _, over) = run("goes on", fate)
    assert aborted == -signal.SIGABRT
    assert over - began < 60
    assert status == 1, output
    assert "error: process 1 has died" in output


@pytest.mark.parametrize("fates", [("waits", "is not there"), ("is not there", "waits")])
def test_a_process_that_does_not_come_ends_the_others_with_a_sentence(fates):
    status, output, _ = run(*fates)[fates.index("waits")]
    assert status == 1
    assert output.splitlines()[-1].startswith("error: not all of 2 processes were there within 3 s")
