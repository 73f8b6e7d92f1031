"""A pool in which a crash, a hang or a greedy file costs that file alone."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver

import numpy as np
import psutil
import pytest

from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError


def count(start, shape):
    while True:
        yield os.getpid(), np.full(shape, start, np.uint8)
        start += 1


def sleep(seconds):
    time.sleep(seconds)
    yield "slept"


def marks():
    yield "first"
    yield "second"
    time.sleep(0.5)
    yield "third"


def die(number):
    yield "alive"
    os.kill(os.getpid(), number)


def leave(status):
    os._exit(status)
    yield


def fail(error):
    raise error
    yield


def take(num_bytes):
    yield np.ones(num_bytes, np.uint8).sum()


def imported():
    yield sorted({name.split(".")[0] for name in sys.modules})


@pytest.fixture(scope="module")
def pool():
    with DecoderPool(Limits(seconds=20, pixels=1000, file_bytes=1000), 1) as pool:
        yield pool


def first(pool, function, *args):
    with pool.steps("x.jpg", function, *args) as advance:
        return advance()


def test_steps_run_elsewhere_and_their_arrays_come_back(pool):
    with pool.steps("x", count, 3, (700, 500, 3)) as advance:
        for value in (3, 4, 5):
            pid, array = advance()
            assert pid != os.getpid()
            assert array.shape == (700, 500, 3)
            assert array.dtype == np.uint8
            assert (array == value).all()
            array[0, 0] = 1  # Its own memory.
    # What was left unfinished is gone, and the process is the same.
    with pool.steps("x", count, 9, ()) as advance:
        assert advance()[0] == pid
        assert advance()[1] == 10
    with pool.steps("x", sleep, 0) as advance:
        assert advance() == "slept"
        assert advance() is None


def test_values_are_made_ahead(pool):
    with pool.steps("x", marks, ahead=True) as advance:
        assert advance() == "first"
        advance()
        started = time.monotonic()
        time.sleep(0.6)
        assert advance() == "third"
        # Its half second went by while this process slept.
        assert time.monotonic() - started < 1
        assert advance() is None
    assert first(pool, sleep, 0) == "slept"
    with pool.steps("x", die, signal.SIGSEGV, ahead=True) as advance:
        assert advance() == "alive"
        time.sleep(0.2)
        with pytest.raises(UserError, match=r"x ended the process .*SIGSEGV"):
            advance()
    with pool.steps("x", count, 1, (), ahead=True) as advance:
        advance()
    assert first(pool, sleep, 0) == "slept"


def test_a_crash_costs_the_file_alone_and_says_how(pool):
    for number in (signal.SIGSEGV, signal.SIGKILL):
        with pool.steps("evil.png", die, number) as advance:
            assert advance() == "alive"
            with pytest.raises(UserError, match=rf"evil\.png ended the process .*{number.name}"):
                advance()
        assert first(pool, sleep, 0) == "slept"
    with pytest.raises(UserError, match=r"x\.jpg ended the process .*exit status 3"):
        first(pool, leave, 3)
    assert first(pool, sleep, 0) == "slept"


def test_a_hang_is_ended_after_the_stated_time():
    with DecoderPool(Limits(seconds=0.5), 1) as pool:
        assert first(pool, sleep, 0) == "slept"
        started = time.monotonic()
        with pytest.raises(UserError, match=r"x\.jpg was given up after 0\.5 seconds .*--max_sec"):
            first(pool, sleep, 100)
        assert time.monotonic() - started < 5
        assert first(pool, sleep, 0) == "slept"


def test_errors_name_the_file_and_keep_the_process(pool):
    pid = first(pool, count, 0, ())[0]
    with pytest.raises(UserError, match=r"^a sentence$"):
        first(pool, fail, UserError("a sentence"))
    with pytest.raises(UserError, match=r"x\.jpg cannot be decoded \(KeyError 'key'\)"):
        first(pool, fail, KeyError("key"))
    with pytest.raises(UserError, match=r"x\.jpg cannot be decoded \(ValueError\)"):
        first(pool, fail, ValueError(""))
    assert first(pool, count, 0, ())[0] == pid


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux")
def test_memory_is_bounded(pool):
    assert first(pool, take, 2**20) == 2**20
    with pytest.raises(UserError, match=r"x\.jpg cannot be decoded \(.*MemoryError"):
        first(pool, take, 2**31)


def test_a_process_that_is_killed_while_idle_is_replaced(pool):
    pid = first(pool, count, 0, ())[0]
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.wait_procs([psutil.Process(pid)], 10)
    assert first(pool, count, 0, ())[0] != pid


def test_a_kill_of_what_starts_the_processes_costs_one_file(monkeypatch):
    with DecoderPool(Limits(seconds=30), 1) as pool:
        server = forkserver._forkserver
        os.kill(server._forkserver_pid, signal.SIGKILL)
        os.waitid(os.P_PID, server._forkserver_pid, os.WEXITED | os.WNOWAIT)
        with monkeypatch.context() as patch:
            # It was still there when it was looked for.
            patch.setattr(server, "ensure_running", lambda: None)
            with pytest.raises(UserError, match="has ended, perhaps for want of memory"):
                first(pool, take, 1)
        assert first(pool, take, 3) == 3


def test_what_works_when_the_pool_is_closed_fails():
    pool = DecoderPool(Limits(seconds=30), 1)
    with pool.steps("x", count, 0, ()) as advance:
        advance()
        pool.close()
        with pytest.raises(UserError):
            advance()
    with pytest.raises(UserError, match="ended"), pool.steps("x", count, 0, ()):
        pass


def test_processes_import_no_jax(pool):
    names = first(pool, imported)
    assert "cv2" in names
    assert not {"jax", "flax", "tensorflow_datasets", "grain"} & set(names)


# It has no `if __name__ == "__main__"`: only what needs no process runs in it.
SCRIPT = """
import os, sys, time
from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.data.limits import Limits
def steps():
    while True:
        yield os.getpid(), sorted(os.sched_getaffinity(0))
if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pool = DecoderPool(Limits())
    with pool.steps("x", steps) as advance:
        print(*advance(), pool._idle.qsize(), flush=True)
        time.sleep(100)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_processes_end_with_a_killed_parent_and_keep_to_its_cores(tmp_path):
    (tmp_path / "parent.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pid, cores, num_others = parent.stdout.readline().split(" ")
        worker = psutil.Process(int(pid))
        worker.send_signal(signal.SIGINT)  # Is the parent's to answer.
        assert cores == f"[{min(os.sched_getaffinity(0))}]"
        assert num_others.strip() == "0"
        time.sleep(0.2)
        assert worker.is_running()
        parent.kill()
    assert psutil.wait_procs([worker], 20)[1] == []


UNGUARDED = """
from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.data.limits import Limits
with DecoderPool(Limits(), 1) as pool, pool.steps("x", print) as advance:
    advance()
"""


def test_a_script_without_guard_is_told_so(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith('must do so below `if __name__ == "__main__":`.')
