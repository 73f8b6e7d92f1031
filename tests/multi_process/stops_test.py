"""A run that is asked to stop loses nothing."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from multi_process.runs import (
    EVALUATION,
    QUICK_COMPILATION,
    ROOT,
    SMALL,
    STATISTICS,
    TRAINING,
    Fault,
    Run,
    assert_close,
    assert_same_bits,
)


def random_points(callers, count, seed):
    """Draws points of the run, each kind of work among them; the last tick is left out."""
    rng = random.Random(seed)
    by_kind = {}
    for point, caller in enumerate(callers[:-1], start=1):
        by_kind.setdefault(caller, []).append(point)
    assert len(by_kind) == 3, sorted(by_kind)  # training, statistics, evaluation
    kinds = [rng.choice(points) for points in by_kind.values()]
    return [*kinds, *rng.choices(range(1, len(callers)), k=count)][:count]


def interrupt_by_sigterm(workdir, env, processes, point, receivers):
    fault = Fault(point, signal.SIGTERM, receivers)
    Run(workdir, processes=processes, env=env, fault=fault).finish_preempted()
    assert not (workdir / "metrics.json").exists()


def check_sigterm(tmp_path, cache, uninterrupted, processes, points, seed):
    reference, _ = uninterrupted(processes)
    rng = random.Random(seed)
    for number, point in enumerate(points):
        workdir = tmp_path / f"run_{number}"
        everyone = tuple(range(processes))
        receivers = rng.choice([everyone, *((index,) for index in everyone)])
        interrupt_by_sigterm(workdir, cache, processes, point, receivers)
        Run(workdir, processes=processes, env=cache).finish()
        assert_same_bits(workdir, reference)


# Not among the layouts: workers of pytest share no runs, and the tests below need the same two.
def test_two_processes_do_what_one_does(uninterrupted):
    one, two = uninterrupted(1)[0], uninterrupted(2)[0]
    assert_close(two, one, 1e-3)
    for workdir in (one, two):
        assert json.loads((workdir / "metrics.json").read_text())["num_images"] == 5


@pytest.mark.slow
def test_sigterm_to_one_of_two_processes_loses_nothing(tmp_path, cache, uninterrupted):
    callers = uninterrupted(2)[1]
    # Within the re-estimation of a teacher's statistics: nothing of it is in the state yet.
    point = callers.index(STATISTICS) + 1
    interrupt_by_sigterm(tmp_path / "run", cache, 2, point, (1,))
    Run(tmp_path / "run", processes=2, env=cache).finish()
    assert_same_bits(tmp_path / "run", uninterrupted(2)[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_sigterm_at_random_points_of_one_process(tmp_path, cache, uninterrupted, seed):
    points = random_points(uninterrupted(1)[1], 5, seed)
    check_sigterm(tmp_path, cache, uninterrupted, 1, points, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_sigterm_at_random_points_of_two_processes(tmp_path, cache, uninterrupted, seed):
    points = random_points(uninterrupted(2)[1], 5, seed)
    check_sigterm(tmp_path, cache, uninterrupted, 2, points, seed)


@pytest.mark.slow
@pytest.mark.parametrize("caller", [TRAINING, STATISTICS, EVALUATION])
def test_reading_processes_are_left_out_of_a_sigterm(tmp_path, cache, uninterrupted, caller):
    reference, callers = uninterrupted(1)
    workdir, workers = tmp_path / "run", "--config.data.num_workers=2"
    fault = Fault(callers.index(caller) + 1, signal.SIGTERM, (0,))
    Run(workdir, workers, env=cache, fault=fault).finish_preempted()
    Run(workdir, workers, env=cache).finish()
    assert_same_bits(workdir, reference)


@pytest.mark.slow
def test_ctrl_c_saves_as_sigterm_does(tmp_path, cache, uninterrupted):
    reference, callers = uninterrupted(1)
    fault = Fault(callers.index(EVALUATION) + 2, signal.SIGINT, (0,))
    Run(tmp_path / "run", env=cache, fault=fault).finish_preempted(by=signal.SIGINT)
    Run(tmp_path / "run", env=cache).finish()
    assert_same_bits(tmp_path / "run", reference)


@pytest.mark.slow
def test_one_run_survives_many_sigterms(tmp_path, cache, uninterrupted):
    """Stopped again and again, a few steps at a time."""
    workdir = tmp_path / "run"
    for _ in range(5):
        interrupt_by_sigterm(workdir, cache, 1, 4, (0,))
    Run(workdir, env=cache).finish()
    assert_same_bits(workdir, uninterrupted(1)[0])


@pytest.mark.slow
def test_local_script_runs_the_same(tmp_path, cache, uninterrupted):
    config, *arguments = SMALL
    settings = tmp_path / "settings.env"
    lines = [f"CONFIG={config.partition('=')[2]}", f"WORKDIR={tmp_path / 'run'}"]
    lines += [f"ARGUMENT={argument}" for argument in arguments]
    settings.write_text("\n".join(lines) + "\n")
    environment = os.environ | cache
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}:{environment['PATH']}"
    environment["XLA_FLAGS"] = QUICK_COMPILATION
    command = ["bash", ROOT / "launch" / "local.sh", "--settings", settings, "2"]
    interrupted = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while not (tmp_path / "run" / "checkpoints" / "2").exists():
        assert interrupted.poll() is None
        time.sleep(0.1)
    interrupted.terminate()
    assert interrupted.wait(300) == 128 + signal.SIGTERM
    assert not (tmp_path / "run" / "metrics.json").exists()
    result = subprocess.run(command, env=environment, capture_output=True, timeout=900)
    # Not as text: a progress bar begins its line anew, which is no new line.
    output = result.stdout.decode()
    assert result.returncode == 0, output + result.stderr.decode()
    assert {line[:4] for line in output.rstrip("\n").split("\n")} == {"[0] ", "[1] "}
    assert_same_bits(tmp_path / "run", uninterrupted(2)[0])
