"""The part of tpu_vm.sh that runs on the machines of a slice."""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
from launch_bench import FAKE, NASTY, PROCESS, TRAIN, executable, is_up, plan, wait_for


@pytest.fixture
def bench(bench):
    """A machine of a slice, with a fake for the environment's Python."""
    (bench.bin / "sleep").unlink()
    python = bench.home / "dmlcsr_jax_venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    executable(python, PROCESS)
    return bench


class TestSupervise:
    """What `start` leaves running on the machine."""

    def command(self, bench):
        (bench.home / "dmlcsr_jax_run").mkdir()
        return ["bash", str(bench.root / "launch" / "worker.sh"), "supervise", "a b", "$c"]

    def state(self, bench):
        return (bench.home / "dmlcsr_jax_run" / "state").read_text()

    @pytest.mark.parametrize(
        ("status", "state"),
        [(0, "finished\n"), (143, "stopped\n"), (1, "failed 1\n"), (127, "failed 127\n")],
    )
    def test_left_alone(self, bench, status, state):
        plan(bench, {"status": status})
        result = subprocess.run(
            self.command(bench), env=bench.env, capture_output=True, text=True, timeout=30
        )
        assert result.returncode == status
        assert self.state(bench) == state
        arguments = ["-m", "dmlcsr_jax.main", "--distributed", "a b", "$c"]
        assert f"arguments {json.dumps(arguments)}" in result.stdout

    @pytest.mark.parametrize(
        ("to_all", "saved_status", "state"),
        [
            (False, 143, "stopped\n"), (True, 143, "stopped\n"), (True, 3, "failed 3\n"),
            (False, 0, "finished\n"),
        ],
    )  # fmt: skip
    def test_a_sigterm_to_training_or_to_all_is_waited_for(
        self, bench, to_all, saved_status, state
    ):
        plan(bench, {"seconds": 60, "save": 0.3, "saved_status": saved_status})
        process = bench.start(self.command(bench), start_new_session=True)
        wait_for(lambda: is_up(bench))
        training = int((bench.folder / "up0").read_text())
        assert self.state(bench) == f"running {training} {process.pid}\n"
        if to_all:
            os.killpg(process.pid, signal.SIGTERM)
        else:
            os.kill(training, signal.SIGTERM)
        wait_for(lambda: process.poll() is not None)
        assert process.returncode == saved_status
        assert self.state(bench) == state
        assert "saved" in process.stdout.read()

    def test_a_second_sigterm_while_it_saves_changes_nothing(self, bench):
        plan(bench, {"seconds": 60, "save": 0.6})
        process = bench.start(self.command(bench), start_new_session=True)
        wait_for(lambda: is_up(bench))
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGTERM)
        wait_for(lambda: process.poll() is not None)
        assert process.returncode == 143

    def test_one_that_dies_at_once_of_a_sigterm_to_the_group_was_stopped(self, bench):
        # Bash can lose the status of a child that dies while a trap runs; many at once make it.
        python = pathlib.Path("dmlcsr_jax_venv", "bin", "python")
        homes = [bench.folder / f"home {number}" for number in range(20)]
        processes = []
        for home in homes:
            (home / python).parent.mkdir(parents=True)
            (home / "dmlcsr_jax_run").mkdir()
            executable(home / python, "#!/bin/sh\ntouch ~/up; exec tail -f /dev/null\n")
            processes.append(
                subprocess.Popen(
                    ["bash", bench.root / "launch" / "worker.sh", "supervise"],
                    env=bench.env | {"HOME": str(home)},
                    start_new_session=True,
                )
            )
        wait_for(lambda: all((home / "up").exists() for home in homes))
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        assert {process.wait(20) for process in processes} == {143}
        states = {(home / "dmlcsr_jax_run" / "state").read_text() for home in homes}
        assert states == {"stopped\n"}

    def test_a_killed_process_has_failed(self, bench):
        plan(bench, {"signal": signal.SIGKILL})
        assert subprocess.run(self.command(bench), env=bench.env, timeout=30).returncode == 137
        assert self.state(bench) == "failed 137\n"


class TestWorker:
    """The subcommands that tpu_vm.sh calls."""

    def call(self, bench, *arguments, check=True):
        result = subprocess.run(
            ["bash", str(bench.root / "launch" / "worker.sh"), *arguments],
            env=bench.env, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert not check or result.returncode == 0, result.stderr
        return result

    def state(self, bench):
        return self.call(bench, "state").stdout.strip()

    def test_provision(self, bench):
        executable(bench.bin / "python3", FAKE)
        executable(bench.home / "dmlcsr_jax_venv" / "bin" / "python", FAKE)
        self.call(bench, "provision", "3.12")
        venv = f"{bench.home}/dmlcsr_jax_venv"
        lock = f"{bench.root}/launch/requirements.txt"
        assert bench.calls() == [
            ["python3", "-m", "pip", "--version"],
            [
                "python3", "-m", "pip", "install", "--user", "--quiet", "--upgrade",
                "--require-hashes", "--requirement=/dev/stdin",
            ],
            ["python3", "-m", "uv", "venv", "--quiet", "--allow-existing", "--python=3.12", venv],
            [
                "python3", "-m", "uv", "pip", "install", "--quiet", f"--python={venv}/bin/python",
                "--require-hashes", f"--requirement={lock}",
            ],
            [
                "python3", "-m", "uv", "pip", "install", "--quiet", f"--python={venv}/bin/python",
                "--no-deps", "--no-build-isolation", "--editable", str(bench.root),
            ],
            ["python", "-c", "import dmlcsr_jax, jax, libtpu"],
        ]  # fmt: skip

    def test_a_provision_that_fails_says_so(self, bench):
        executable(bench.bin / "python3", FAKE)
        bench.answer({"uv pip install": [[2, "no such version"]]})
        assert self.call(bench, "provision", "3.12", check=False).returncode == 2

    def test_from_start_to_finish(self, bench):
        plan(bench, {"seconds": 0.5})
        assert self.state(bench) == "absent"
        self.call(bench, "start", *TRAIN, *NASTY)
        assert self.state(bench) == "running"
        wait_for(lambda: self.state(bench) == "finished")
        log = (bench.home / "dmlcsr_jax_run" / "log").read_text()
        arguments = ["-m", "dmlcsr_jax.main", "--distributed", *TRAIN, *NASTY]
        assert f"arguments {json.dumps(arguments)}" in log
        assert "on stderr" in log

    def test_stop_waits_until_it_has_saved(self, bench):
        plan(bench, {"seconds": 60, "save": 0.3})
        self.call(bench, "start")
        wait_for(lambda: is_up(bench))
        assert "already" in self.call(bench, "start", check=False).stderr
        self.call(bench, "stop")
        assert self.state(bench) == "requested"
        assert "saved" in (bench.home / "dmlcsr_jax_run" / "log").read_text()
        plan(bench, {})
        self.call(bench, "start")
        wait_for(lambda: self.state(bench) == "finished")

    def test_a_sigterm_from_outside_is_no_request(self, bench):
        plan(bench, {"seconds": 60})
        self.call(bench, "start")
        wait_for(lambda: is_up(bench))
        pid = (bench.home / "dmlcsr_jax_run" / "state").read_text().split()[1]
        os.kill(int(pid), signal.SIGTERM)
        wait_for(lambda: self.state(bench) == "stopped")

    def test_failed_and_lost(self, bench):
        plan(bench, {"status": 1})
        self.call(bench, "start")
        wait_for(lambda: self.state(bench) == "failed")
        gone = subprocess.Popen(["true"])
        gone.wait()
        state = bench.home / "dmlcsr_jax_run" / "state"
        state.write_text(f"running {gone.pid} {gone.pid}\n")
        assert self.state(bench) == "lost"
        # Training has just ended, and how is about to be written.
        state.write_text(f"running {gone.pid} {os.getpid()}\n")
        assert self.state(bench) == "running"
