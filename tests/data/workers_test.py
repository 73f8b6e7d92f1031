"""Worker processes of every kind end with their parent, leave Ctrl-C to it and keep to a core."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap
import time

import cv2
import psutil
import pytest

from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.data.synthetic import draw_face

# Each starts its workers, says so, and is then killed while they work.
GRAIN = """
import multiprocessing
from dmlcsr_jax.data import batches as batches_lib, synthetic, augmentation
from dmlcsr_jax.data.label_sets import HELEN
if __name__ == "__main__":
    batches = batches_lib.train_batches(
        synthetic.SyntheticSource(64, 48), label_set=HELEN, image_size=32,
        augmentation=augmentation.Augmentation(), batch_size=4, seed=0, num_workers=2,
    )
    next(batches)
    print("started", flush=True)
    time.sleep(100)
"""
CHECK_DATA = """
from dmlcsr_jax.check_data import check
from dmlcsr_jax.data import synthetic
from dmlcsr_jax.data.label_sets import HELEN
class Slow(synthetic.SyntheticSource):
    def __getitem__(self, index):
        print("started", flush=True)
        time.sleep(0.2)
        return super().__getitem__(index)
if __name__ == "__main__":
    check.check_data({"train": Slow(10000, 48)}, HELEN, sys.argv[1], num_workers=2)
"""
PREPARE = """
from dmlcsr_jax.data import prepare
from dmlcsr_jax.data.builders import base, shards
base.EXAMPLES_PER_SHARD = 1
def encode(*arguments):
    print("started", flush=True)
    time.sleep(100)
shards.encode = encode
if __name__ == "__main__":
    prepare.main(["--dataset=folder", "--label_set=helen", "--num_workers=2",
                  f"--root={sys.argv[1]}", f"--out={sys.argv[1]}/to"])
"""


def children(pid):
    """The worker processes below a process; those of multiprocessing that start them are none."""
    found = psutil.Process(pid).children(recursive=True)
    starters = {p.ppid() for p in found} - {pid}
    return [
        p
        for p in found
        if "resource_tracker" not in " ".join(p.cmdline()) and p.pid not in starters
    ]


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for index in range(4):
        image, label = draw_face(index, 48)
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), image)
        cv2.imwrite(str(tmp_path / "labels" / f"{index}.png"), label)
    (tmp_path / "train_list.txt").write_text("0\n1\n2\n3\n")
    return tmp_path


@pytest.mark.parametrize("script", [GRAIN, CHECK_DATA, PREPARE], ids=["grain", "check", "prepare"])
def test_workers_end_with_a_killed_parent_and_leave_ctrl_c_to_it(folder, script):
    path = folder / "parent.py"
    path.write_text("import sys, time\n" + script)
    with (folder / "output").open("w") as output:
        parent = subprocess.Popen([sys.executable, path, folder], stdout=output, stderr=output)
    try:
        wait_for(lambda: "started" in (folder / "output").read_text())
        wait_for(lambda: len(children(parent.pid)) == 2)
        pool = children(parent.pid)
        # From its first moment on: also one that still imports.
        for worker in pool:
            worker.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert all(map(psutil.Process.is_running, pool))
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(pool, timeout=20)
    for worker in alive:
        worker.kill()
    assert not alive
    assert "KeyboardInterrupt" not in (folder / "output").read_text()


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def core_and_threads():
    yield signal.getsignal(signal.SIGINT), cv2.getNumThreads()


def pid():
    yield os.getpid()


def test_a_worker_of_a_pool_ignores_ctrl_c_and_has_one_thread():
    with DecoderPool(Limits(), 1) as pool, pool.steps("", core_and_threads) as advance:
        assert advance() == (signal.SIG_IGN, 1)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_an_interrupt_while_workers_start_is_the_parents_alone():
    with DecoderPool(Limits(), 2) as pool, concurrent.futures.ThreadPoolExecutor(2) as threads:

        def ask(_):
            with pool.steps("", pid) as advance:
                return advance()

        answers = threads.map(ask, range(4), timeout=60)
        for _ in range(20):
            for worker in psutil.Process().children(recursive=True):
                worker.send_signal(signal.SIGINT)
            time.sleep(0.02)
        assert os.getpid() not in set(answers)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_the_number_of_cores_is_that_of_the_affinity():
    code = """
        import os
        from dmlcsr_jax.data import workers
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(workers.num_cores())
        """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"
