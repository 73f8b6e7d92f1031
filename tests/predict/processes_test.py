import collections
import contextlib
import io
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import PIL.Image
import pytest
from colour_network import picture
from prediction_files import encoded, files_below, read_label, read_shards, save, write_records

# The real command in processes of its own, on the colour network. A slow one waits at each write.
_PROCESS = """
import sys, time
sys.path.insert(0, {tests!r})
import colour_network
from dmlcsr_jax import atomic_file
from dmlcsr_jax.distributed import watchdog
from dmlcsr_jax.predict import __main__ as predict
colour_network.install(setattr)
watchdog._SILENCE_SECONDS = 8.0  # half a minute in earnest
delay = float(sys.argv.pop(1))
write_bytes = atomic_file.write_bytes
def slow(path, data):
    time.sleep(delay)
    write_bytes(path, data)
atomic_file.write_bytes = slow
predict.main(sys.argv[1:])
"""


def start(*arguments, delay=0.0, env=()):
    tests = str(pathlib.Path(__file__).parents[1])
    code = textwrap.dedent(_PROCESS).format(tests=tests)
    # Colours are no faces.
    options = ("--checkpoint=any", "--faces=whole")
    return subprocess.Popen(
        [sys.executable, "-c", code, str(delay), *map(str, arguments), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **dict(env)},
    )


def finish(process):
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    counts = re.search(r"(\d+) labelled .* (\d+) were labelled before, (\d+) failed", output)
    return tuple(map(int, counts.groups()))


def share(index):
    return f"--process_index={index}", "--process_count=2"


@pytest.fixture(scope="module")
def two_hundred(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for i in range(200):
        save(folder / "photos" / f"{i % 3}" / f"{i:03d}.png", picture(np.full((2, 2), i % 11)))
    write_records(folder / "all.array_record", [encoded(i % 11) for i in range(200)])
    return folder


def test_two_processes_label_every_photograph_once_though_one_was_killed(two_hundred, tmp_path):
    arguments = (two_hundred / "photos", f"--out={tmp_path}", "--no_overlay")
    labels = tmp_path / "labels"
    killed = start(*arguments, *share(0), delay=0.05)
    while killed.poll() is None and sum(1 for _ in labels.rglob("*.png")) < 3:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in labels.rglob("*.png")}
    processes = [start(*arguments, *share(i)) for i in range(2)]
    (first, skipped, failed), (second, *others) = [finish(process) for process in processes]
    assert (failed, *others) == (0, 0, 0)
    assert skipped == len(before) >= 3
    assert first + skipped + second == 200
    assert 50 < second < 150
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    found = {path.relative_to(labels).as_posix(): path for path in labels.rglob("*.png")}
    assert sorted(found) == sorted(f"{i % 3}/{i:03d}.png" for i in range(200))
    for i in range(200):
        assert set(np.unique(read_label(found[f"{i % 3}/{i:03d}.png"]))) == {i % 11}


def test_two_processes_write_every_shard_once(two_hundred, tmp_path):
    arguments = (two_hundred / "all.array_record", f"--out={tmp_path}", "--records_per_shard=30")
    processes = [start(*arguments, *share(i)) for i in range(2)]
    assert [finish(process) for process in processes] == [(110, 0, 0), (90, 0, 0)]
    files, labels = read_shards(tmp_path)
    assert len(files) == 7
    names = collections.Counter()
    for i, data in enumerate(labels):
        with PIL.Image.open(io.BytesIO(data)) as label:
            names[label.text["name"]] += 1
            assert set(np.unique(np.asarray(label))) == {i % 11}
    assert names == {f"all.array_record:{i}": 1 for i in range(200)}


def slurm_job():
    """Returns the number of a Slurm job whose port, which JAX takes from it, is free."""
    for job in random.sample(range(4096), 100):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", 65535 - 4095 + job))
            return job
    raise AssertionError("no free port")


@pytest.fixture
def slurm():
    """Starts tasks of one job of two, told by their environment which they are; leaves none."""
    job, processes = slurm_job(), []

    def start_task(index, *arguments, delay=0.0):
        environment = {
            "SLURM_JOB_ID": str(job),
            "SLURM_STEP_NODELIST": "127.0.0.1",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(index),
            "SLURM_LOCALID": "0",
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        }
        processes.append(start(*arguments, "--distributed", delay=delay, env=environment))
        return processes[-1]

    yield start_task
    for process in processes:
        process.kill()
        process.wait()


def test_distributed_processes_label_every_photograph_once(two_hundred, tmp_path, slurm):
    arguments = (two_hundred / "photos", f"--out={tmp_path}", "--no_overlay")
    # One is done before the other.
    processes = [slurm(i, *arguments, delay=0.1 * i) for i in range(2)]
    (first, *others), (second, *more_others) = [finish(process) for process in processes]
    assert [*others, *more_others] == [0, 0, 0, 0]
    assert first + second == 200
    assert 50 < second < 150
    labels = tmp_path / "labels"
    assert files_below(labels) == sorted(f"{i % 3}/{i:03d}.png" for i in range(200))
    for i in range(200):
        assert set(np.unique(read_label(labels / f"{i % 3}/{i:03d}.png"))) == {i % 11}


@pytest.mark.parametrize("killed", [0, 1])
def test_a_distributed_process_names_the_one_that_died(two_hundred, tmp_path, slurm, killed):
    arguments = (two_hundred / "photos", f"--out={tmp_path}", "--no_overlay")
    processes = [slurm(i, *arguments, delay=0.3) for i in range(2)]
    while sum(1 for _ in (tmp_path / "labels").rglob("*.png")) < 3:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    processes[killed].send_signal(signal.SIGKILL)
    _, errors = processes[1 - killed].communicate(timeout=60)
    assert processes[1 - killed].returncode == 1
    assert re.search(rf"error: process {killed} has died.*; this one stops: ", errors)
    assert "Traceback" not in errors


def test_a_distributed_process_names_the_one_that_failed_and_why(two_hundred, tmp_path, slurm):
    arguments = (two_hundred / "photos", f"--out={tmp_path}", "--no_overlay")
    well, failing = slurm(0, *arguments, delay=0.3), slurm(1, *arguments, "--boxes=nowhere.csv")
    _, errors = well.communicate(timeout=60)
    _, other_errors = failing.communicate(timeout=60)
    assert well.returncode == failing.returncode == 1
    assert "error: process 1 has failed (nowhere.csv cannot be read" in errors
    assert "error: nowhere.csv cannot be read" in other_errors
    assert "Traceback" not in errors + other_errors


def test_distributed_without_a_cluster_ends_in_one_sentence(two_hundred, tmp_path):
    process = start(two_hundred / "photos", f"--out={tmp_path}", "--distributed")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: no cluster was found")
    assert errors.count("\n") == 1
