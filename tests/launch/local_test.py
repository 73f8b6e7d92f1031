"""Several processes on this machine."""

import json
import os
import re
import shlex
import signal
import time

import pytest
from launch_bench import NASTY, PROCESS, TRAIN, executable, is_up, plan, wait_for


class TestLocal:
    @pytest.fixture
    def bench(self, bench):
        (bench.bin / "sleep").unlink()
        executable(bench.bin / "python", PROCESS)
        return bench

    def test_local_prints_what_would_run(self, bench):
        shown = bench.run("local.sh", "--dry_run", "--devices=3", "--port=5000", "2", "--", *NASTY)
        expected = [
            [
                "env", "JAX_PLATFORMS=cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION=gloo",
                "XLA_FLAGS=--xla_force_host_platform_device_count=3",
                "python", "-m", "dmlcsr_jax.main", *TRAIN, *NASTY,
                "--coordinator_address=127.0.0.1:5000", "--num_processes=2", f"--process_id={i}",
            ]
            for i in range(2)
        ]  # fmt: skip
        assert [shlex.split(line) for line in shown.stdout.splitlines()] == expected

    def test_starts_all_and_says_who_speaks(self, bench):
        plan(bench, {}, {}, {})
        lines = bench.run("local.sh", "--devices", "2", "3", "--", *NASTY).stdout.splitlines()
        ports = set()
        for process in range(3):
            mine = [line[4:] for line in lines if line.startswith(f"[{process}] ")]
            arguments = json.loads(mine[0].removeprefix("arguments "))
            assert arguments[:-3] == ["-m", "dmlcsr_jax.main", *TRAIN, *NASTY]
            ports.add(arguments[-3])
            assert arguments[-2:] == ["--num_processes=3", f"--process_id={process}"]
            assert "flags --xla_force_host_platform_device_count=2 cpu" in mine
            assert "on stderr" in mine
            assert mine[-1] == "no line end"
        assert len(ports) == 1
        assert re.fullmatch(r"--coordinator_address=127\.0\.0\.1:\d+", ports.pop())

    @pytest.mark.parametrize(
        ("fate", "words"),
        [
            ({"status": 3}, "process 1 ended with status 3"),
            ({"signal": signal.SIGKILL}, "process 1 ended with status 137 (signal KILL)"),
        ],
    )
    def test_one_that_fails_ends_the_others(self, bench, fate, words):
        plan(bench, {"seconds": 60}, {"after": "02"} | fate, {"seconds": 60})
        begin = time.monotonic()
        result = bench.run("local.sh", "3", check=False)
        assert time.monotonic() - begin < 15
        assert result.returncode == 1
        assert f"error: {words}; the others were ended." in result.stderr
        assert result.stdout.count("saved") == 2
        assert not any(_alive(bench, number) for number in range(3))

    def test_one_that_does_not_listen_is_killed(self, bench):
        script = bench.root / "launch" / "local.sh"
        script.write_text(script.read_text().replace("grace_seconds=60", "grace_seconds=1"))
        plan(bench, {"seconds": 60, "deaf": True}, {"after": "0", "status": 1})
        result = bench.run("local.sh", "2", check=False, timeout=20)
        assert result.returncode == 1
        assert "process 1 ended with status 1" in result.stderr
        assert not _alive(bench, 0)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signals_are_passed_on(self, bench, number):
        plan(bench, {"seconds": 60, "save": 0.3}, {"seconds": 60, "save": 0.6})
        process = bench.start(bench.command("local.sh", "2"))
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 143
        assert "[0] saved" in output
        assert "[1] saved" in output

    def test_sigint_is_passed_on_where_it_was_ignored(self, bench):
        plan(bench, {"seconds": 60}, {"seconds": 60})
        # As a background job of another script is started.
        process = bench.start(["env", "--ignore-signal=INT", *bench.command("local.sh", "2")])
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 143
        assert output.count("saved") == 2

    def test_one_that_has_stopped_stops_the_others(self, bench):
        plan(bench, {"seconds": 60}, {"after": "0", "status": 143})
        result = bench.run("local.sh", "2", check=False)
        assert result.returncode == 143
        assert "error" not in result.stderr
        assert "[0] saved" in result.stdout

    def test_one_that_fails_as_it_saves_is_named(self, bench):
        plan(bench, {"seconds": 60}, {"seconds": 60, "save": 0.3, "saved_status": 3})
        process = bench.start(bench.command("local.sh", "2"))
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        process.terminate()
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "error: process 1 ended with status 3." in output

    @pytest.mark.slow
    def test_the_whole_group_may_be_signalled(self, bench):
        plan(bench, {"seconds": 60, "save": 0.3}, {"seconds": 60, "save": 0.3})
        process = bench.start(bench.command("local.sh", "2"), start_new_session=True)
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 143
        assert output.count("saved") >= 2

    @pytest.mark.parametrize("words", [[], ["two"], ["0"], ["1", "2"], ["--devices=x", "1"]])
    def test_wrong_numbers_are_refused(self, bench, words):
        result = bench.run("local.sh", *words, check=False)
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")


def _alive(bench, number):
    path = bench.folder / f"up{number}"
    if not path.exists():
        return False
    try:
        os.kill(int(path.read_text()), 0)
    except ProcessLookupError:
        return False
    return True
