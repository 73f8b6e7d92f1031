"""Slurm: the calls, and the job as Slurm runs it."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest
from launch_bench import (
    FAKE,
    LAUNCH,
    NASTY,
    PROCESS,
    TRAIN,
    executable,
    is_up,
    plan,
    wait_for,
)


class TestCalls:
    @pytest.mark.parametrize(("per", "tasks", "cpus"), [("gpu", "4", "8"), ("node", "1", "32")])
    def test_slurm(self, bench, per, tasks, cpus):
        bench.settings("SLURM_PARTITION=gpu", "SLURM_ACCOUNT=faces", SLURM_PROCESS_PER=per)
        bench.run("slurm.sh", "start", "--", "--mode=eval")
        bench.run("slurm.sh", "status")
        bench.run("slurm.sh", "stop")
        me = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
        [kept] = bench.logs.iterdir()
        assert bench.calls() == [
            [
                "sbatch", "--job-name=helen", f"--chdir={bench.root}",
                f"--output={bench.logs}/%j.log", "--time=24:00:00", "--nodes=2",
                f"--ntasks-per-node={tasks}", "--gpus-per-node=4", f"--cpus-per-task={cpus}",
                "--partition=gpu", "--account=faces", f"{bench.root}/launch/slurm.sbatch",
                f"--settings={kept}", "--", "--mode=eval",
            ],
            ["squeue", "--me", "--name=helen"],
            ["scancel", f"--user={me}", "--name=helen", "--state=PENDING"],
            [
                "scancel", f"--user={me}", "--name=helen", "--state=RUNNING", "--batch",
                "--signal=USR2",
            ],
        ]  # fmt: skip

    @pytest.mark.parametrize("words", [["stop"], ["teardown", "--yes"], ["start"], ["status"]])
    def test_a_name_that_is_a_list_reaches_no_job(self, bench, words):
        bench.settings(SLURM_JOB="mine,yours")
        result = bench.run("slurm.sh", *words, check=False)
        assert result.returncode == 1
        assert "SLURM_JOB is 'mine,yours'; it must be one name" in result.stderr
        assert bench.calls() == []

    def test_a_queued_job_keeps_its_settings(self, bench):
        def submit():
            bench.run("slurm.sh", "start", cwd=bench.folder)
            [call] = bench.calls()
            return pathlib.Path(next(w for w in call if "settings" in w).partition("=")[2])

        bench.settings(SLURM_LOGS="here")
        first = submit()
        text = first.read_text()
        assert first.parent == bench.folder / "here"  # the job runs in the checkout
        bench.settings(SLURM_LOGS="here", WORKDIR="gs://faces/another")
        assert submit() != first
        assert first.read_text() == text
        bench.settings(SLURM_LOGS="here")
        assert submit() == first

    def test_through_slurm_to_the_process(self, bench):
        bench.settings(*(f"ARGUMENT={value}" for value in NASTY))
        executable(bench.bin / "srun", FAKE)
        bench.run("slurm.sh", "start", "--", *NASTY)
        [_, *arguments] = next(call for call in bench.calls() if call[0] == "sbatch")
        script = next(i for i, word in enumerate(arguments) if word.endswith("slurm.sbatch"))
        subprocess.run(
            ["bash", *arguments[script:]], cwd=bench.root, env=bench.env, check=True, timeout=30
        )
        [call] = bench.calls()
        assert call == [
            "srun", "--kill-on-bad-exit=0", "--cpus-per-task=8", "/opt/venv/bin/python",
            "-m", "dmlcsr_jax.main", "--distributed",
            *TRAIN, *NASTY, *NASTY,
        ]  # fmt: skip


# Runs its command as two tasks, each a session of its own; SIGTERM makes it kill them.
SRUN = f"""#!{sys.executable} -SE
import json, os, signal, subprocess, sys, time
home = os.environ["FAKE_DIR"]
words = sys.argv[1:]
options = [word for word in words if word.startswith("--")][:2]
tasks = []
def kill(*_):
    for task in tasks:
        os.killpg(task.pid, signal.SIGKILL)
    os._exit(143)
signal.signal(signal.SIGTERM, kill)
open(home + "/srun", "w").write(str(os.getpid()))
time.sleep(float(os.environ.get("SRUN_DELAY", 0)))
for number in range(2):
    task = subprocess.Popen(words[len(options):], start_new_session=True,
                            env=os.environ | {{"SLURM_PROCID": str(number)}})
    tasks.append(task)
open(home + "/step.new", "w").write(json.dumps([task.pid for task in tasks]))
os.rename(home + "/step.new", home + "/step")
while None in [task.poll() for task in tasks]:
    if "--kill-on-bad-exit=1" in options and any(task.poll() for task in tasks):
        kill()
    time.sleep(0.02)
sys.exit(max(task.returncode if task.returncode >= 0 else 128 - task.returncode for task in tasks))
"""

# Signals every process of the step, where there is one, as `scancel --signal` does.
SCANCEL = f"""#!{sys.executable} -SE
import json, os, signal, sys
assert sys.argv[1:] == ["--signal=TERM", "77"], sys.argv
step = os.environ["FAKE_DIR"] + "/step"
for pid in json.load(open(step)) if os.path.exists(step) else ():
    try:
        os.killpg(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
"""


class TestSlurmJob:
    """launch/slurm.sbatch as Slurm runs it, with fakes for Slurm's own programs."""

    @pytest.fixture
    def bench(self, bench):
        executable(bench.bin / "scontrol", FAKE)
        executable(bench.bin / "srun", SRUN)
        executable(bench.bin / "scancel", SCANCEL)
        executable(bench.bin / "train", PROCESS)
        (bench.bin / "sleep").unlink()
        script = bench.root / "launch" / "slurm.sbatch"
        script.write_text(script.read_text().replace("sleep 5", "sleep 0.1"))
        bench.settings(SLURM_PYTHON="train")
        bench.env["SLURM_JOB_ID"] = "77"
        return bench

    def command(self, bench):
        settings = f"--settings={bench.folder}/my settings.env"
        return ["bash", "launch/slurm.sbatch", settings]

    def start(self, bench, *plans, **keywords):
        plan(bench, *plans)
        return bench.start(self.command(bench), cwd=bench.root, **keywords)

    def end(self, process):
        output, _ = process.communicate(timeout=20)
        return process.returncode, output.count("saved")

    @pytest.mark.parametrize("statuses", [(0, 0), (5, 1)])
    def test_ends_as_the_run_ends(self, bench, statuses):
        process = self.start(bench, *({"status": status} for status in statuses))
        assert self.end(process) == (max(statuses), 0)
        assert bench.calls() == []

    def test_near_the_time_limit_it_saves_and_goes_back_into_the_queue(self, bench):
        process = self.start(bench, {"seconds": 60, "save": 0.2}, {"seconds": 60, "save": 0.6})
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        process.send_signal(signal.SIGUSR1)
        assert self.end(process) == (143, 2)
        assert bench.calls() == [["scontrol", "requeue", "77"]]

    def test_a_signal_before_the_tasks_are_up_is_not_lost(self, bench):
        bench.env["SRUN_DELAY"] = "1"
        process = self.start(bench, {"seconds": 60}, {"seconds": 60})
        wait_for(lambda: (bench.folder / "srun").exists())
        process.send_signal(signal.SIGUSR1)
        assert self.end(process)[0] == 143
        assert bench.calls() == [["scontrol", "requeue", "77"]]

    def test_stopped_by_a_preemption_with_a_grace_time_it_goes_back_into_the_queue(self, bench):
        process = self.start(bench, {"seconds": 60, "save": 0.2}, {"seconds": 60, "save": 0.6})
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        # Slurm signals the tasks alone.
        subprocess.run([bench.bin / "scancel", "--signal=TERM", "77"], env=bench.env, check=True)
        assert self.end(process) == (143, 2)
        assert bench.calls() == [["scontrol", "requeue", "77"]]

    @pytest.mark.parametrize(("saved_status", "status"), [(143, 0), (0, 0), (3, 3)])
    def test_stopped_on_request_it_saves_and_is_not_put_back(self, bench, saved_status, status):
        fate = {"seconds": 60, "saved_status": saved_status}
        process = self.start(bench, fate | {"save": 0.2}, fate | {"save": 0.6})
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        process.send_signal(signal.SIGUSR2)
        assert self.end(process) == (status, 2)
        assert bench.calls() == []

    def test_a_cancelled_job_is_not_put_back(self, bench):
        fate = {"seconds": 60, "save": 60}
        process = self.start(bench, fate, fate)
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        for pid in (process.pid, int((bench.folder / "srun").read_text())):
            os.kill(pid, signal.SIGTERM)
        assert self.end(process)[0] != 0
        assert bench.calls() == []

    def test_one_process_for_each_node_sees_all_its_gpus(self, bench):
        bench.settings(SLURM_PROCESS_PER="node")
        executable(bench.bin / "srun", FAKE)
        subprocess.run(self.command(bench), env=bench.env, cwd=bench.root, check=True)
        [call] = bench.calls()
        assert call[:6] == [
            "srun", "--kill-on-bad-exit=0", "--cpus-per-task=32", "env",
            "JAX_LOCAL_DEVICE_IDS=0,1,2,3", "/opt/venv/bin/python",
        ]  # fmt: skip

    def test_slurm_reads_its_options(self):
        lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
        assert lines[1:4] == [
            "#SBATCH --requeue",
            "#SBATCH --signal=B:USR1@300",
            "#SBATCH --open-mode=append",
        ]
