"""A run of which all or one process is killed loses nothing."""

import random
import re
import signal
import time

import pytest
from multi_process.runs import TRAINING, Fault, Run, assert_same_bits


def a_save_is_under_way(workdir) -> bool:
    return any(workdir.glob("*/*orbax-checkpoint-tmp*")) or any(
        workdir.glob("*/*/*orbax-checkpoint-tmp*")
    )


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_sigkill_at_random_moments(tmp_path, cache, uninterrupted, processes, seed):
    """Of each five, two fall into a save."""
    rng = random.Random(seed)
    reference, callers = uninterrupted(processes)
    for number in range(5):
        workdir = tmp_path / f"run_{number}"
        if number < 2:
            run = Run(workdir, processes=processes, env=cache)
            saves = rng.randrange(1, 5)
            while saves and run.processes[0].poll() is None:
                if a_save_is_under_way(workdir):
                    saves -= 1
                    while saves and a_save_is_under_way(workdir):
                        time.sleep(0.001)
                time.sleep(0.001)
            assert not saves, run.output()
            run.kill()
        else:
            fault = Fault(rng.randrange(1, len(callers)), signal.SIGKILL, tuple(range(processes)))
            assert set(Run(workdir, processes=processes, env=cache, fault=fault).wait()) <= {-9, 1}
        Run(workdir, processes=processes, env=cache).finish()
        assert_same_bits(workdir, reference)


@pytest.mark.slow
@pytest.mark.parametrize("dying", [0, 1])
def test_one_process_dying_ends_the_other_with_its_name(tmp_path, cache, uninterrupted, dying):
    callers = uninterrupted(2)[1]
    point = callers.index(TRAINING) + 5
    run = Run(
        tmp_path / "run", processes=2, env=cache, fault=Fault(point, signal.SIGKILL, (dying,))
    )
    run.processes[dying].wait(600)
    died = time.monotonic()
    statuses = run.wait(90)
    assert time.monotonic() - died < 60
    assert statuses[dying] == -signal.SIGKILL
    assert statuses[1 - dying] > 0
    said = run.logs[1 - dying].read_text()
    assert re.search(rf"^error: .*process {dying}\b.*\.$", said, re.M), said
    Run(tmp_path / "run", processes=2, env=cache).finish()
    assert_same_bits(tmp_path / "run", uninterrupted(2)[0])
