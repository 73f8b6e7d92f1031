"""The launch scripts, run with stand-ins for the clouds' own programs that record their calls."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = ("tpu_vm.sh", "gke.sh", "slurm.sh", "local.sh")

# Records its name and arguments; answers from a file: {part of the call: [[status, output], ...]},
# each answer given once, the last one for ever.
STAND_IN = f"""#!{sys.executable} -SE
import fcntl, json, os, sys
call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open(os.environ["STAND_IN_DIR"] + "/lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with open(os.environ["STAND_IN_DIR"] + "/calls", "a") as calls:
        calls.write(json.dumps(call) + "\\n")
    path = os.environ["STAND_IN_DIR"] + "/answers"
    answers = json.load(open(path))
    status, output = 0, ""
    for part, replies in answers.items():
        if part in " ".join(call):
            status, output = replies[0]
            if len(replies) > 1:
                del replies[0]
            json.dump(answers, open(path, "w"))
            break
print(output, end="\\n" if output else "")
sys.exit(status)
"""

NASTY = (
    "--config.name=it's",
    '--config.name="quoted" $HOME ${HOME} $(id) `id`',
    "--config.name=a  b\tc * ? ~ # ! & ; | < > ( ) { } [ ] \\ \\n %s",
    "--config.name='single' \\'",
    "--config.name=@GKE_HOSTS@ @ARGUMENTS@ $(POD_IP) $$ $$(POD_IP)",
    "--config.name=",
    "--config.name=é日本",
)

FILLED = {
    "CONFIG": "configs/helen.py",
    "WORKDIR": "gs://faces/runs/helen",
    "PROJECT": "my-project",
    "ZONE": "us-west4-a",
    "TPU_NAME": "helen-1",
    "ACCELERATOR_TYPE": "v5litepod-16",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
    "PROVISIONING": "spot",
    "MAX_FAILURES": "2",
    "PYTHON_VERSION": "3.12",
    "POLL_SECONDS": "60",
    "GKE_CLUSTER": "faces",
    "GKE_LOCATION": "us-east5",
    "GKE_NODE_POOL": "slice",
    "GKE_ZONE": "us-east5-b",
    "GKE_MACHINE_TYPE": "ct6e-standard-4t",
    "GKE_ACCELERATOR": "tpu-v6e-slice",
    "GKE_TOPOLOGY": "4x4",
    "GKE_HOSTS": "4",
    "GKE_CHIPS_PER_HOST": "4",
    "GKE_NAMESPACE": "research",
    "GKE_SERVICE_ACCOUNT": "trainer",
    "GKE_JOB": "helen",
    "IMAGE": "us-docker.pkg.dev/my-project/faces/dmlcsr_jax:1",
    "SLURM_JOB": "helen",
    "SLURM_NODES": "2",
    "SLURM_GPUS_PER_NODE": "4",
    "SLURM_CPUS_PER_GPU": "8",
    "SLURM_PROCESS_PER": "gpu",
    "SLURM_TIME": "24:00:00",
    "SLURM_PYTHON": "/opt/venv/bin/python",
    "SLURM_LOGS": "",  # set by the fixture
}
TRAIN = ["--config=configs/helen.py", "--workdir=gs://faces/runs/helen"]


def executable(path: pathlib.Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Bench:
    """A checkout of its own with the launch scripts, stand-ins first on PATH, and a home."""

    def __init__(self, folder: pathlib.Path):
        self.root = folder / "check out"  # a space: paths are values too
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.logs = folder / "slurm logs"
        for path in (self.root, self.home, self.bin):
            path.mkdir()
        shutil.copytree(LAUNCH, self.root / "launch")
        (self.root / ".gitignore").write_text("/build/\n")
        git = ["git", "-C", self.root, "-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)
        for name in ("gcloud", "kubectl", "docker", "sbatch", "scancel", "squeue", "sleep"):
            executable(self.bin / name, STAND_IN)
        self.env = os.environ | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "STAND_IN_DIR": str(folder),
        }
        self.env.pop("XLA_FLAGS", None)
        self.folder = folder
        self.answer({})
        self.settings()

    def settings(self, *lines: str, **changes: str) -> None:
        values = FILLED | {"SLURM_LOGS": str(self.logs)} | changes
        text = [f"{name}={value}" for name, value in values.items()]
        (self.folder / "my settings.env").write_text("\n".join([*text, *lines]) + "\n")

    def answer(self, answers: dict[str, list]) -> None:
        """Each answer is an output, or a pair of exit status and output."""
        pairs = {
            part: [[0, reply] if isinstance(reply, str) else reply for reply in replies]
            for part, replies in answers.items()
        }
        (self.folder / "answers").write_text(json.dumps(pairs))

    def calls(self) -> list[list[str]]:
        """The calls since the last time, less those of sleep."""
        path = self.folder / "calls"
        if not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.unlink()
        return [line for line in lines if line[0] != "sleep"]

    def command(self, script: str, *arguments: str) -> list[str]:
        return [
            "bash",
            str(self.root / "launch" / script),
            "--settings",
            str(self.folder / "my settings.env"),
            *arguments,
        ]

    def run(self, script: str, *arguments: str, check=True, stdin="", cwd=None, timeout=60):
        result = subprocess.run(
            self.command(script, *arguments),
            env=self.env,
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert result.returncode == 0, result.stderr
        return result

    def start(self, command: list[str], **keywords) -> subprocess.Popen:
        return subprocess.Popen(
            command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            **keywords,
        )  # fmt: skip


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


WHERE = ["--project=my-project", "--zone=us-west4-a"]
QUEUED = ["gcloud", "compute", "tpus", "queued-resources"]
VM = ["gcloud", "compute", "tpus", "tpu-vm"]
LIST = [*QUEUED, "list", *WHERE, "--filter=name~/helen-1$", "--format=value(state.state)"]
NODE = [*VM, "describe", "helen-1", *WHERE, "--format=value(state)"]
DELETE = [*QUEUED, "delete", "helen-1", *WHERE, "--force", "--quiet"]
CREATE = [
    *QUEUED, "create", "helen-1", *WHERE, "--node-id=helen-1",
    "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite",
]  # fmt: skip


def ssh(command: str, worker="all") -> list[str]:
    return [*VM, "ssh", "helen-1", *WHERE, f"--worker={worker}", f"--command={command}"]


WORKER = "bash dmlcsr_jax/launch/worker.sh"
STATE = ssh(f"if [ -e dmlcsr_jax/launch/worker.sh ]; then {WORKER} state; else echo absent; fi")
START = ssh(f"{WORKER} start {' '.join(TRAIN)}")
UNPACK = (
    "rm -rf dmlcsr_jax && mkdir dmlcsr_jax && tar -xzf dmlcsr_jax.tgz -C dmlcsr_jax "
    f"&& {WORKER} provision 3.12"
)


def provision(bench) -> list[list[str]]:
    archive = str(bench.root / "build" / "checkout.tgz")
    return [[*VM, "scp", archive, "helen-1:dmlcsr_jax.tgz", *WHERE, "--worker=all"], ssh(UNPACK)]


KUBECTL = ["kubectl", "--context=gke_my-project_us-east5_faces", "--namespace=research"]
CLUSTER = ["--project=my-project", "--location=us-east5"]
DELETE_JOB = [
    *KUBECTL, "delete", "jobset", "helen", "--ignore-not-found", "--cascade=foreground", "--wait",
]  # fmt: skip


class TestCalls:
    """What each subcommand asks of the clouds' programs, to the letter."""

    @pytest.mark.parametrize(
        ("provisioning", "flags"),
        [("spot", ["--spot"]), ("reserved", ["--reserved"]), ("on-demand", [])],
    )
    def test_tpu_create(self, bench, provisioning, flags):
        bench.settings(PROVISIONING=provisioning)
        bench.answer({"list": ["", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]})
        bench.run("tpu_vm.sh", "create")
        assert bench.calls() == [LIST, [*CREATE, *flags], LIST, LIST, LIST]

    def test_tpu_create_with_the_optional_settings(self, bench):
        bench.settings("SERVICE_ACCOUNT=a@b.c", "NETWORK=net", "SUBNETWORK=sub")
        bench.answer({"list": ["", "ACTIVE"]})
        bench.run("tpu_vm.sh", "create")
        options = ["--spot", "--service-account=a@b.c", "--network=net", "--subnetwork=sub"]
        assert bench.calls() == [LIST, [*CREATE, *options], LIST]

    def test_tpu_create_refuses_a_second_slice_of_that_name(self, bench):
        bench.answer({"list": ["ACTIVE"]})
        result = bench.run("tpu_vm.sh", "create", check=False)
        assert result.returncode == 1
        assert "helen-1 exists already and is ACTIVE" in result.stderr
        assert bench.calls() == [LIST]

    def test_tpu_create_says_why_a_request_failed(self, bench):
        bench.answer({"list": ["", "FAILED"], "describe": ["no quota for v5litepod"]})
        result = bench.run("tpu_vm.sh", "create", check=False)
        assert result.returncode == 1
        assert "no quota for v5litepod" in result.stderr
        assert "helen-1 has become FAILED" in result.stderr

    def test_tpu_status(self, bench):
        bench.answer({"state.state": ["ACTIVE"], "worker.sh": ["running\nrunning"]})
        assert "running" in bench.run("tpu_vm.sh", "status").stdout
        overview = [[*what, "list", *WHERE, "--filter=name~/helen-1$"] for what in (QUEUED, VM)]
        assert bench.calls() == [*overview, LIST, STATE]

    def test_tpu_provision_sends_the_commit(self, bench):
        (bench.root / "launch" / "settings.env").write_text("MAX_FAILURES=9\n")
        result = bench.run("tpu_vm.sh", "provision")
        assert "uncommitted changes are not sent" in result.stderr
        assert bench.calls() == provision(bench)
        # What the machine makes of it, with the archive that was made.
        shutil.copy(bench.root / "build" / "checkout.tgz", bench.home / "dmlcsr_jax.tgz")
        unpack = UNPACK.partition(" && bash")[0]
        subprocess.run(["bash", "-c", unpack], cwd=bench.home, check=True)
        sent = bench.home / "dmlcsr_jax" / "launch"
        assert (sent / "settings.env").read_bytes() == (LAUNCH / "settings.env").read_bytes()

    def test_tpu_start_logs_and_stop(self, bench):
        bench.run("tpu_vm.sh", "start")
        bench.run("tpu_vm.sh", "logs")
        bench.run("tpu_vm.sh", "logs", "3")
        bench.run("tpu_vm.sh", "stop")
        tail = "tail -n 200 -F dmlcsr_jax_run/log"
        expected = [START, ssh(tail, 0), ssh(tail, 3), ssh(f"{WORKER} stop")]
        assert bench.calls() == expected

    def test_tpu_create_asks_again_where_the_cloud_does_not_answer(self, bench):
        bench.answer({"list": ["", [1, ""], "ACTIVE"]})
        assert "no answer" in bench.run("tpu_vm.sh", "create").stderr
        assert bench.calls() == [LIST, [*CREATE, "--spot"], LIST, LIST]

    def test_gke(self, bench):
        for words in (
            ["credentials"], ["image"], ["create"], ["start"], ["status"], ["logs", "2"], ["stop"],
        ):  # fmt: skip
            bench.run("gke.sh", *words)
        image = FILLED["IMAGE"]
        labels = "jobset.sigs.k8s.io/jobset-name=helen"
        assert bench.calls() == [
            ["gcloud", "container", "clusters", "get-credentials", "faces", *CLUSTER],
            [
                "docker", "build", "--platform=linux/amd64",
                f"--file={bench.root}/launch/Dockerfile", f"--tag={image}", str(bench.root),
            ],
            ["docker", "push", image],
            [
                "gcloud", "container", "node-pools", "create", "slice", *CLUSTER,
                "--cluster=faces", "--node-locations=us-east5-b",
                "--machine-type=ct6e-standard-4t", "--num-nodes=4", "--spot",
                "--tpu-topology=4x4",
            ],
            [*KUBECTL, "apply", f"--filename={bench.root}/build/helen.yaml"],
            [*KUBECTL, "get", "jobset", "helen"],
            [*KUBECTL, "get", "pods", f"--selector={labels}", "--output=wide"],
            [
                *KUBECTL, "logs", "--follow", "--tail=200",
                f"--selector={labels},batch.kubernetes.io/job-completion-index=2",
            ],
            DELETE_JOB,
        ]  # fmt: skip

    def test_gke_takes_no_topology_for_a_single_host(self, bench):
        bench.settings(GKE_HOSTS="1", GKE_TOPOLOGY="2x2")
        bench.run("gke.sh", "create")
        [call] = bench.calls()
        assert call[-2:] == ["--num-nodes=1", "--spot"]
        assert "topology" not in " ".join(call)

    @pytest.mark.parametrize(
        ("reservation", "flags"),
        [
            ("", ["--reservation-affinity=any"]),
            ("faces", ["--reservation-affinity=specific", "--reservation=faces"]),
        ],
    )
    def test_gke_reservations(self, bench, reservation, flags):
        bench.settings(PROVISIONING="reserved", GKE_RESERVATION=reservation)
        bench.run("gke.sh", "create")
        [call] = bench.calls()
        assert [word for word in call if word.startswith("--reservation")] == flags
        assert "--spot" not in call

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


TEARDOWNS = {
    "tpu_vm.sh": [DELETE],
    "gke.sh": [
        DELETE_JOB,
        [
            "gcloud", "container", "node-pools", "delete", "slice", *CLUSTER, "--cluster=faces",
            "--quiet",
        ],
    ],
}  # fmt: skip


class TestTeardown:
    @pytest.mark.parametrize("script", TEARDOWNS)
    @pytest.mark.parametrize("answer", ["y\n", "YES\n"])
    def test_asks_and_does(self, bench, script, answer):
        result = bench.run(script, "teardown", stdin=answer)
        assert "[y/N]" in result.stderr
        assert bench.calls() == TEARDOWNS[script]

    @pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh", "slurm.sh"])
    @pytest.mark.parametrize("answer", ["", "\n", "n\n", "yesterday\n"])
    def test_anything_but_yes_is_no(self, bench, script, answer):
        result = bench.run(script, "teardown", stdin=answer, check=False)
        assert result.returncode == 1
        assert "nothing was done" in result.stderr
        assert bench.calls() == []

    @pytest.mark.parametrize("script", TEARDOWNS)
    def test_yes_answers(self, bench, script):
        assert "[y/N]" not in bench.run(script, "--yes", "teardown").stderr
        assert bench.calls() == TEARDOWNS[script]

    def test_the_node_pool_goes_where_the_job_cannot_be_deleted(self, bench):
        bench.answer({"delete jobset": [[1, ""]]})
        result = bench.run("gke.sh", "--yes", "teardown")
        assert "the job helen was not deleted" in result.stderr
        assert bench.calls() == TEARDOWNS["gke.sh"]


class TestWatch:
    """Cloud TPU: what happens to a run whose slice comes and goes."""

    def watch(self, bench, slices, nodes, states, word="watch", check=True, **more):
        bench.answer({"list": slices, "describe": nodes, "state;": states} | more)
        result = bench.run("tpu_vm.sh", "--yes", word, check=check)
        return result, bench.calls()

    def test_waits_until_all_have_finished(self, bench):
        states = ["running\nrunning", "finished\nrunning", "finished\nfinished"]
        result, calls = self.watch(bench, ["ACTIVE"], ["READY"], states)
        assert "finished" in result.stderr
        assert calls == [LIST, NODE, STATE] * 3

    def test_a_preempted_slice_is_made_anew_and_started(self, bench):
        slices = [
            "ACTIVE", "SUSPENDING", "SUSPENDED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE",
        ]  # fmt: skip
        result, calls = self.watch(bench, slices, ["READY"], ["running", "absent", "finished"])
        assert calls == [
            LIST, NODE, STATE, LIST, LIST, DELETE, [*CREATE, "--spot"], LIST, LIST,
            LIST, NODE, STATE, *provision(bench), START, LIST, NODE, STATE,
        ]  # fmt: skip
        assert "helen-1: WAITING_FOR_RESOURCES" in result.stderr

    def test_a_preempted_node_of_an_active_request_too(self, bench):
        _, calls = self.watch(bench, ["ACTIVE"], ["PREEMPTED", "READY"], ["finished"])
        assert calls == [LIST, NODE, DELETE, [*CREATE, "--spot"], LIST, NODE, STATE]

    def test_a_slice_torn_down_elsewhere_is_not_rented_again(self, bench):
        slices = ["ACTIVE", "ACTIVE", "DELETING", ""]
        nodes = ["READY", "DELETING"]
        result, calls = self.watch(bench, slices, nodes, ["running"], check=False)
        assert result.returncode == 1
        assert "the slice helen-1 is gone" in result.stderr
        assert calls == [LIST, NODE, STATE, LIST, NODE, LIST, LIST]

    def test_neither_is_one_that_this_watch_has_made(self, bench):
        slices = ["SUSPENDED", "WAITING_FOR_RESOURCES", ""]
        result, calls = self.watch(bench, slices, ["READY"], ["running"], check=False)
        assert "the slice helen-1 is gone" in result.stderr
        assert calls == [LIST, DELETE, [*CREATE, "--spot"], LIST, LIST]

    def test_a_request_that_fails_after_the_slice_is_deleted_is_made_again(self, bench):
        result, calls = self.watch(
            bench, ["SUSPENDED", "DELETING", [1, ""], "", "ACTIVE"], ["READY"], ["finished"],
            create=[[1, ""], ""],
        )  # fmt: skip
        assert "that did not work" in result.stderr
        asked = [*CREATE, "--spot"]
        assert calls == [LIST, DELETE, asked, LIST, LIST, LIST, asked, LIST, NODE, STATE]

    @pytest.mark.parametrize("state", ["stopped\nfinished", "lost\nlost"])
    def test_a_run_stopped_from_outside_is_started_again(self, bench, state):
        _, calls = self.watch(bench, ["ACTIVE"], ["READY"], [state, "finished"])
        assert calls == [LIST, NODE, STATE, START, LIST, NODE, STATE]

    def test_it_starts_with_its_own_arguments(self, bench):
        bench.answer({"list": ["ACTIVE"], "describe": ["READY"], "state;": ["lost", "finished"]})
        bench.run("tpu_vm.sh", "watch", "--", "--mode=eval")
        assert [*START[:-1], f"{START[-1]} --mode=eval"] in bench.calls()

    def test_a_machine_without_the_checkout_is_provisioned(self, bench):
        _, calls = self.watch(bench, ["ACTIVE"], ["READY"], ["absent", "finished"])
        assert calls == [LIST, NODE, STATE, *provision(bench), START, LIST, NODE, STATE]

    @pytest.mark.parametrize("word", ["watch", "run"])
    def test_a_run_stopped_on_request_ends_the_watch_and_the_slice_stays(self, bench, word):
        first = [""] if word == "run" else []
        states = ["running\nrunning", "requested\nrunning", "requested\nstopped"]
        result, calls = self.watch(bench, [*first, "ACTIVE"], ["READY"], states, word)
        assert "on request" in result.stderr
        assert calls[-9:] == [LIST, NODE, STATE] * 3
        assert DELETE not in calls

    def test_failures_are_few(self, bench):
        result, calls = self.watch(
            bench, ["ACTIVE"], ["READY"], ["failed\nlost", "running", "failed"], check=False
        )
        assert result.returncode == 1
        assert "the run has failed" in result.stderr.splitlines()[-1]
        assert "failure 3, and MAX_FAILURES is 2" in result.stderr
        assert calls.count(START) == 2

    def test_failures_long_ago_are_forgiven(self, bench):
        healthy = ["running"] * 10
        states = ["failed", "failed", *healthy, "failed", "finished"]
        _, calls = self.watch(bench, ["ACTIVE"], ["READY"], states)
        assert calls.count(START) == 3

    def test_steps_that_fail_are_counted_too(self, bench):
        result, calls = self.watch(
            bench, ["ACTIVE"], ["READY"], ["absent"], check=False, **{"worker.sh prov": [[1, ""]]}
        )
        assert result.returncode == 1
        assert calls == [LIST, NODE, STATE, *provision(bench)] * 3
        last = result.stderr.splitlines()[-1]
        assert "failure 3, and MAX_FAILURES is 2" in last
        teardown = f"launch/tpu_vm.sh --settings '{bench.folder}/my settings.env' teardown"
        assert f"helen-1 stays and may cost money: {teardown}" in last
        assert DELETE not in calls

    def test_a_step_that_failed_for_a_preemption_is_no_failure(self, bench):
        slices = ["ACTIVE", "ACTIVE", "SUSPENDED", "ACTIVE"]
        states = ["absent"] * 5 + ["finished"]
        broken = {"worker.sh prov": [*[[1, ""]] * 4, ""]}
        _, calls = self.watch(bench, slices, ["READY"], states, **broken)
        assert calls.count([*CREATE, "--spot"]) == 1
        assert calls.count(START) == 1

    def test_a_request_without_quota_is_not_made_for_ever(self, bench):
        result, calls = self.watch(
            bench, ["", "FAILED"], ["no quota for v5litepod"], [], "run", check=False
        )
        assert result.returncode == 1
        assert "no quota for v5litepod" in result.stderr
        assert calls.count([*CREATE, "--spot"]) == 3
        assert "failure 3, and MAX_FAILURES is 2" in result.stderr.splitlines()[-1]

    def test_a_slice_that_cannot_be_deleted_is_not_tried_for_ever(self, bench):
        result, calls = self.watch(
            bench, ["SUSPENDED"], [], [], check=False, **{"resources delete": [[1, ""]]}
        )
        assert result.returncode == 1
        assert calls == [LIST, DELETE] * 3

    def test_run_does_it_all(self, bench):
        slices = ["", "ACTIVE"]
        _, calls = self.watch(bench, slices, ["READY"], ["absent", "finished"], "run")
        assert calls == [
            LIST, [*CREATE, "--spot"], LIST, NODE, STATE, *provision(bench), START,
            LIST, NODE, STATE, DELETE,
        ]  # fmt: skip

    def test_run_lives_through_what_goes_wrong_before_the_start(self, bench):
        slices = ["", [1, ""], "WAITING_FOR_RESOURCES", [1, ""], "SUSPENDED", "ACTIVE"]
        result, calls = self.watch(
            bench, slices, ["READY"], [[255, ""], "absent", "absent", "finished"], "run",
            scp=[[1, ""], ""],
        )  # fmt: skip
        copy, unpack = provision(bench)
        assert calls == [
            LIST, [*CREATE, "--spot"], LIST, LIST, LIST, LIST, DELETE, [*CREATE, "--spot"],
            LIST, NODE, STATE, LIST, NODE, STATE, copy, LIST, NODE, STATE, copy, unpack, START,
            LIST, NODE, STATE, DELETE,
        ]  # fmt: skip
        assert result.stderr.count("did not answer") == 3

    def test_a_cloud_that_does_not_answer_is_asked_again(self, bench):
        result, calls = self.watch(bench, [[1, ""], "ACTIVE"], ["READY"], [[255, ""], "finished"])
        assert result.stderr.count("did not answer") == 2
        assert DELETE not in calls


ALL = [
    *(("tpu_vm.sh", word) for word in (
        "create", "status", "provision", "start", "logs", "stop", "watch", "teardown", "run")),
    *(("gke.sh", word) for word in (
        "credentials", "image", "create", "start", "status", "logs", "stop", "teardown")),
    *(("slurm.sh", word) for word in ("start", "status", "logs", "stop", "teardown")),
]  # fmt: skip


class TestDryRun:
    @pytest.mark.parametrize(("script", "word"), [*ALL, ("gke.sh", "show"), ("local.sh", "2")])
    def test_runs_nothing(self, bench, script, word):
        executable(bench.bin / "python", STAND_IN)
        files = sorted(bench.folder.rglob("*"))
        result = bench.run(script, "--dry_run", word)
        assert result.stdout
        assert bench.calls() == []
        assert sorted(bench.folder.rglob("*")) == files

    @pytest.mark.parametrize(
        ("script", "word"),
        [pair for pair in ALL if pair not in [("tpu_vm.sh", "watch"), ("slurm.sh", "logs")]],
    )
    def test_prints_what_would_run(self, bench, script, word):
        arguments = [word, "--", *NASTY]
        shown = bench.run(script, "--dry_run", *arguments).stdout
        if script == "slurm.sh":
            shown = shown.partition("# the job runs:")[0]
        commands = [shlex.split(line) for line in shown.splitlines() if line[0] != "#"]
        bench.answer({"list": ["", "ACTIVE"] if word in ("create", "run") else ["ACTIVE"],
                      "describe": ["READY"], "state;": ["absent", "finished"]})  # fmt: skip
        bench.run(script, "--yes", *arguments)
        made = bench.calls()
        if word in ("create", "run") and script == "tpu_vm.sh":
            del made[0]  # the look whether the slice exists already
        if word == "run":  # the watch is shown with what it does in an emergency
            begin = shown.index("# where the slice is lost:")
            calm = [*shown[:begin].splitlines(), shown.splitlines()[-1]]
            commands = [shlex.split(line) for line in calm if line[0] != "#"]
            del made[-4:-1]  # the second look
        commands = [words for words in commands if words[0] not in ("mkdir", "git", "cp")]
        assert commands == made

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


class TestSettings:
    @pytest.mark.parametrize(
        ("script", "word", "names"),
        [
            ("tpu_vm.sh", "status", ["PROJECT", "ZONE", "TPU_NAME", "WORKDIR"]),
            ("gke.sh", "status", ["PROJECT", "GKE_CLUSTER", "IMAGE"]),
            ("slurm.sh", "status", ["CONFIG", "SLURM_PYTHON", "SLURM_LOGS"]),
            ("local.sh", "2", ["CONFIG", "WORKDIR"]),
        ],
    )
    def test_missing_ones_are_named(self, bench, script, word, names):
        bench.settings(**dict.fromkeys(names, ""))
        result = bench.run(script, word, check=False)
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
        assert set(names) <= set(re.findall(r"\w+", result.stderr))
        assert bench.calls() == []

    @pytest.mark.parametrize(
        ("changes", "lines", "words"),
        [
            ({"PROVISIONING": "cheap"}, [], ["PROVISIONING", "cheap", "spot reserved on-demand"]),
            ({"POLL_SECONDS": "soon"}, [], ["POLL_SECONDS", "soon", "whole number"]),
            ({"MAX_FAILURES": "0"}, [], ["MAX_FAILURES", "'0'", "whole number"]),
            ({"TPU_NAME": "My TPU"}, [], ["TPU_NAME", "My TPU"]),
            ({}, ["ZOEN=x"], [f"line {len(FILLED) + 1}", "ZOEN"]),
            ({}, ["ZONE=x"], [f"line {len(FILLED) + 1}", "ZONE", "twice"]),
            ({}, ["export ZONE=x"], [f"line {len(FILLED) + 1}", "NAME=value"]),
        ],
    )
    def test_wrong_ones_are_named(self, bench, changes, lines, words):
        bench.settings(*lines, **changes)
        result = bench.run("tpu_vm.sh", "status", check=False)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        for word in words:
            assert word in result.stderr
        assert bench.calls() == []

    @pytest.mark.parametrize(
        ("changes", "lines", "arguments", "named"),
        [
            ({"WORKDIR": "gs://BUCKET/runs/helen"}, [], [], "line 2: WORKDIR"),
            ({}, ["ARGUMENT=--config.data.root=gs://BUCKET/data"], [],
             f"line {len(FILLED) + 1}: ARGUMENT"),
            ({}, [], ["--workdir=gs://BUCKET/a"], "the argument --workdir=gs://BUCKET/a"),
        ],
    )  # fmt: skip
    def test_a_placeholder_is_refused(self, bench, changes, lines, arguments, named):
        bench.settings(*lines, **changes)
        result = bench.run("tpu_vm.sh", "start", "--", *arguments, check=False)
        assert result.returncode == 1
        assert f"{named} still says gs://BUCKET" in result.stderr
        assert bench.calls() == []

    def test_the_shipped_file_has_no_placeholder(self, bench):
        shutil.copy(LAUNCH / "settings.env", bench.folder / "my settings.env")
        result = bench.run("local.sh", "1", check=False)
        assert "lacks WORKDIR:" in result.stderr  # all else is in order

    def test_a_missing_file_is_named(self, bench):
        (bench.folder / "my settings.env").unlink()
        result = bench.run("tpu_vm.sh", "status", check=False)
        assert result.returncode == 1
        assert "my settings.env" in result.stderr

    def test_comments_blanks_quotes_and_line_ends(self, bench):
        (bench.folder / "my settings.env").write_text(
            "# comment\n\n  \t\nCONFIG='configs/a b.py'\r\nWORKDIR=\"/w\"\nARGUMENT='\nARGUMENT=\"x"
        )
        result = bench.run("local.sh", "--dry_run", "--port=1", "1")
        command = shlex.split(result.stdout)
        assert command[6:-3] == ["dmlcsr_jax.main", "--config=configs/a b.py", "--workdir=/w", "'",
                                 '"x']  # fmt: skip

    def test_the_shipped_file_has_every_setting(self):
        text = (LAUNCH / "settings.sh").read_text()
        known = re.search(r"setting_names=\(([^)]*)\)", text)[1].split()
        shipped = re.findall(r"^([A-Z_]+)=", (LAUNCH / "settings.env").read_text(), re.M)
        assert sorted(known) == sorted(set(shipped) - {"ARGUMENT"})
        scripts = "".join(
            path.read_text() for path in LAUNCH.glob("*.sh") if path.name != "settings.sh"
        )
        scripts += (LAUNCH / "slurm.sbatch").read_text()
        for name in known:
            assert re.search(rf"\b{name}\b", scripts), f"{name} is read by no script"


class TestQuoting:
    def test_through_ssh_to_the_process(self, bench):
        bench.settings(*(f"ARGUMENT={value}" for value in NASTY))
        bench.run("tpu_vm.sh", "start", "--", *NASTY, "two\nlines")
        [call] = bench.calls()
        # ssh gives the command to the login shell of the machine, in the home folder.
        worker = bench.home / "dmlcsr_jax" / "launch" / "worker.sh"
        worker.parent.mkdir(parents=True)
        worker.write_text('printf "%s\\0" "$@"')
        command = call[-1].removeprefix("--command=")
        for shell in ("bash", "sh"):
            said = subprocess.run(
                [shell, "-c", command], cwd=bench.home, capture_output=True, text=True, check=True
            ).stdout
            assert said.split("\0")[:-1] == ["start", *TRAIN, *NASTY, *NASTY, "two\nlines"]

    def test_through_kubernetes_to_the_process(self, bench):
        bench.settings(*(f"ARGUMENT={value}" for value in NASTY))
        manifest = yaml.safe_load(bench.run("gke.sh", "show", "--", "two\nlines").stdout)
        [container] = _pod(manifest)["containers"]
        # Kubernetes reads $$ as $, and replaces $(NAME) where NAME is in the environment.
        arguments = [
            re.sub(r"\$\$|\$\((\w+)\)", lambda m: "$" if m[0] == "$$" else f"<{m[1]}>", text)
            for text in container["args"]
        ]
        assert arguments == [*TRAIN, *NASTY, "two\nlines"]

    def test_through_slurm_to_the_process(self, bench):
        bench.settings(*(f"ARGUMENT={value}" for value in NASTY))
        executable(bench.bin / "srun", STAND_IN)
        bench.run("slurm.sh", "start", "--", *NASTY)
        [_, *arguments] = next(call for call in bench.calls() if call[0] == "sbatch")
        script = next(i for i, word in enumerate(arguments) if word.endswith("slurm.sbatch"))
        subprocess.run(
            ["bash", *arguments[script:]], cwd=bench.root, env=bench.env, check=True, timeout=30
        )
        [call] = bench.calls()
        assert call == [
            "srun", "--kill-on-bad-exit=0", "--cpus-per-task=8", "bash", "launch/supervise.sh",
            "-", "/opt/venv/bin/python", "-m", "dmlcsr_jax.main", "--distributed",
            *TRAIN, *NASTY, *NASTY,
        ]  # fmt: skip


def _pod(manifest) -> dict:
    [job] = manifest["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


class TestManifest:
    def test_one_pod_for_each_host(self, bench):
        manifest = yaml.safe_load(bench.run("gke.sh", "show").stdout)
        assert manifest["metadata"]["name"] == "helen"
        assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 2
        job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
        assert (job["completions"], job["parallelism"], job["backoffLimit"]) == (4, 4, 0)
        pod = _pod(manifest)
        assert pod["serviceAccountName"] == "trainer"
        assert pod["nodeSelector"] == {
            "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
            "cloud.google.com/gke-tpu-topology": "4x4",
            "cloud.google.com/gke-spot": "true",
        }
        [container] = pod["containers"]
        assert container["image"] == FILLED["IMAGE"]
        assert container["resources"]["limits"] == {"google.com/tpu": 4}
        [mount] = container["volumeMounts"]
        [volume] = pod["volumes"]
        assert mount == {"name": volume["name"], "mountPath": "/dev/shm"}
        assert volume["emptyDir"] == {"medium": "Memory"}
        assert "@" not in json.dumps(manifest)

    def test_on_demand_selects_no_spot_nodes(self, bench):
        bench.settings(PROVISIONING="on-demand")
        manifest = yaml.safe_load(bench.run("gke.sh", "show").stdout)
        assert "cloud.google.com/gke-spot" not in _pod(manifest)["nodeSelector"]

    def test_start_writes_what_show_shows(self, bench):
        bench.run("gke.sh", "start")
        shown = bench.run("gke.sh", "show").stdout
        assert (bench.root / "build" / "helen.yaml").read_text() == shown


# Stands for a training process: says what it was told, then does as the file `plan` beside it says.
PROCESS = f"""#!{sys.executable} -SE
import json, os, signal, sys, time
number = next((a.split("=")[1] for a in sys.argv if a.startswith("--process_id=")),
              os.environ.get("SLURM_PROCID", "0"))
home = os.environ["STAND_IN_DIR"]
plan = json.load(open(home + "/plan"))[int(number)]
def saved(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(plan.get("save", 0))
    print("saved", flush=True)
    sys.exit(plan.get("saved_status", 0))
if plan.get("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, saved)
print("arguments", json.dumps(sys.argv[1:]), flush=True)
print("flags", os.environ.get("XLA_FLAGS"), os.environ.get("JAX_PLATFORMS"), flush=True)
print("on stderr", file=sys.stderr, flush=True)
open(home + "/up" + number, "w").write(str(os.getpid()))
while not all(os.path.exists(home + "/up" + other) for other in plan.get("after", "")):
    time.sleep(0.02)
time.sleep(plan.get("seconds", 0))
print("no line end", end="", flush=True)
if plan.get("signal"):
    os.kill(os.getpid(), plan["signal"])
sys.exit(plan.get("status", 0))
"""


def plan(bench, *plans: dict) -> None:
    (bench.folder / "plan").write_text(json.dumps(plans))


def is_up(bench, number=0):
    path = bench.folder / f"up{number}"
    return path.exists() and path.read_text() != ""


class TestSupervise:
    def command(self, bench):
        executable(bench.bin / "python", PROCESS)
        script = str(bench.root / "launch" / "supervise.sh")
        return ["bash", script, str(bench.folder / "state"), "python", "a b", "$c"]

    def state(self, bench):
        path = bench.folder / "state"
        return path.read_text() if path.exists() else ""

    @pytest.mark.parametrize(
        ("status", "state"), [(0, "finished\n"), (1, "failed 1\n"), (127, "failed 127\n")]
    )
    def test_left_alone(self, bench, status, state):
        plan(bench, {"status": status})
        result = subprocess.run(
            self.command(bench), env=bench.env, capture_output=True, text=True, timeout=30
        )
        assert result.returncode == status
        assert self.state(bench) == state
        assert 'arguments ["a b", "$c"]' in result.stdout

    @pytest.mark.parametrize(
        ("saved_status", "status", "state"), [(0, 143, "stopped\n"), (3, 3, "failed 3\n")]
    )
    def test_sigterm_is_passed_on_and_waited_for(self, bench, saved_status, status, state):
        plan(bench, {"seconds": 60, "save": 0.5, "saved_status": saved_status})
        process = bench.start(self.command(bench))
        wait_for(lambda: is_up(bench))
        assert self.state(bench) == f"running {process.pid}\n"
        process.terminate()
        wait_for(lambda: process.poll() is not None)
        assert process.returncode == status
        assert self.state(bench) == state
        assert "saved" in process.stdout.read()

    def test_it_keeps_no_state_where_none_is_asked_for(self, bench):
        plan(bench, {})
        command = self.command(bench)
        command[2] = "-"
        subprocess.run(command, env=bench.env, cwd=bench.home, check=True, timeout=30)
        assert list(bench.home.iterdir()) == []

    def test_a_second_sigterm_while_it_saves_changes_nothing(self, bench):
        plan(bench, {"seconds": 60, "save": 1.0})
        process = bench.start(self.command(bench))
        wait_for(lambda: is_up(bench))
        process.terminate()
        time.sleep(0.3)
        process.terminate()
        wait_for(lambda: process.poll() is not None)
        assert process.returncode == 143

    def test_one_that_dies_at_once_of_a_sigterm_to_the_group_was_stopped(self, bench):
        # Bash can lose the status of a child that dies while a trap runs; many at once make it.
        ups = [bench.folder / f"up{number}" for number in range(20)]
        script = [*self.command(bench)[:2], "-", "bash", "-c"]
        processes = [
            bench.start([*script, f"touch '{up}'; exec tail -f /dev/null"], start_new_session=True)
            for up in ups
        ]
        wait_for(lambda: all(up.exists() for up in ups))
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        assert {process.wait(20) for process in processes} == {143}

    def test_a_killed_process_has_failed(self, bench):
        plan(bench, {"signal": signal.SIGKILL})
        assert subprocess.run(self.command(bench), env=bench.env, timeout=30).returncode == 137
        assert self.state(bench) == "failed 137\n"


class TestWorker:
    """The machine's own part: with a stand-in for the environment's Python."""

    def call(self, bench, *arguments, check=True):
        result = subprocess.run(
            ["bash", str(bench.root / "launch" / "worker.sh"), *arguments],
            env=bench.env, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert not check or result.returncode == 0, result.stderr
        return result

    def state(self, bench):
        return self.call(bench, "state").stdout.strip()

    @pytest.fixture
    def bench(self, tmp_path):
        bench = Bench(tmp_path)
        (bench.bin / "sleep").unlink()
        python = bench.home / "dmlcsr_jax_venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        executable(python, PROCESS)
        return bench

    def test_provision(self, bench):
        executable(bench.bin / "python3", STAND_IN)
        executable(bench.home / "dmlcsr_jax_venv" / "bin" / "python", STAND_IN)
        self.call(bench, "provision", "3.12")
        venv = f"{bench.home}/dmlcsr_jax_venv"
        assert bench.calls() == [
            ["python3", "-m", "pip", "--version"],
            ["python3", "-m", "pip", "install", "--user", "--quiet", "--upgrade", "uv"],
            ["python3", "-m", "uv", "venv", "--quiet", "--allow-existing", "--python=3.12", venv],
            [
                "python3", "-m", "uv", "pip", "install", "--quiet", f"--python={venv}/bin/python",
                "--editable", f"{bench.root}[tpu,gcs]",
            ],
            ["python", "-c", "import dmlcsr_jax, jax, libtpu"],
        ]  # fmt: skip

    def test_a_provision_that_fails_says_so(self, bench):
        executable(bench.bin / "python3", STAND_IN)
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
        plan(bench, {"seconds": 60, "save": 0.5})
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
        (bench.home / "dmlcsr_jax_run" / "state").write_text(f"running {gone.pid}\n")
        assert self.state(bench) == "lost"


# Runs its command as two tasks, each a session of its own; SIGTERM makes it kill them.
SRUN = f"""#!{sys.executable} -SE
import json, os, signal, subprocess, sys, time
home = os.environ["STAND_IN_DIR"]
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
step = os.environ["STAND_IN_DIR"] + "/step"
for pid in json.load(open(step)) if os.path.exists(step) else ():
    try:
        os.killpg(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
"""


class TestSlurmJob:
    """launch/slurm.sbatch as Slurm runs it, with stand-ins for Slurm's own programs."""

    @pytest.fixture
    def bench(self, tmp_path):
        bench = Bench(tmp_path)
        executable(bench.bin / "scontrol", STAND_IN)
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
        process = self.start(bench, {"seconds": 60, "save": 0.2}, {"seconds": 60, "save": 1.0})
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
        process = self.start(bench, {"seconds": 60, "save": 0.2}, {"seconds": 60, "save": 1.0})
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        # Slurm signals the tasks alone.
        subprocess.run([bench.bin / "scancel", "--signal=TERM", "77"], env=bench.env, check=True)
        assert self.end(process) == (143, 2)
        assert bench.calls() == [["scontrol", "requeue", "77"]]

    @pytest.mark.parametrize(("saved_status", "status"), [(0, 0), (3, 3)])
    def test_stopped_on_request_it_saves_and_is_not_put_back(self, bench, saved_status, status):
        fate = {"seconds": 60, "saved_status": saved_status}
        process = self.start(bench, fate | {"save": 0.2}, fate | {"save": 1.0})
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
        executable(bench.bin / "srun", STAND_IN)
        subprocess.run(self.command(bench), env=bench.env, cwd=bench.root, check=True)
        [call] = bench.calls()
        assert call[:6] == [
            "srun", "--kill-on-bad-exit=0", "--cpus-per-task=32", "env",
            "JAX_LOCAL_DEVICE_IDS=0,1,2,3", "bash",
        ]  # fmt: skip

    def test_slurm_reads_its_options(self):
        lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
        assert lines[1:4] == [
            "#SBATCH --requeue",
            "#SBATCH --signal=B:USR1@300",
            "#SBATCH --open-mode=append",
        ]


class TestLocal:
    @pytest.fixture
    def bench(self, tmp_path):
        bench = Bench(tmp_path)
        (bench.bin / "sleep").unlink()
        executable(bench.bin / "python", PROCESS)
        return bench

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
        plan(bench, {"seconds": 60, "save": 0.3}, {"seconds": 60, "save": 0.8})
        process = bench.start(bench.command("local.sh", "2"))
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "[0] saved" in output
        assert "[1] saved" in output

    def test_the_whole_group_may_be_signalled(self, bench):
        plan(bench, {"seconds": 60, "save": 0.5}, {"seconds": 60, "save": 0.5})
        process = bench.start(bench.command("local.sh", "2"), start_new_session=True)
        wait_for(lambda: is_up(bench, 0) and is_up(bench, 1))
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0
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


class TestScripts:
    @pytest.mark.parametrize("script", [*SCRIPTS, "supervise.sh", "worker.sh", "slurm.sbatch"])
    def test_help(self, bench, script):
        result = subprocess.run(
            ["bash", f"launch/{script}", "--help"], cwd=bench.root, capture_output=True, text=True
        )
        assert result.returncode == 0
        assert result.stdout.startswith("usage: ")

    @pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh", "slurm.sh"])
    @pytest.mark.parametrize("words", [[], ["destroy"], ["--force", "status"]])
    def test_unknown_words_are_refused(self, bench, script, words):
        result = bench.run(script, *words, check=False)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert bench.calls() == []

    def test_shellcheck(self):
        beside = pathlib.Path(sys.executable).with_name("shellcheck")
        program = str(beside) if beside.exists() else shutil.which("shellcheck")
        if program is None:
            pytest.skip("shellcheck is not installed (the test extra brings it)")
        scripts = [*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"]
        result = subprocess.run(
            [program, "--external-sources", *scripts], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout


class TestReadme:
    def test_the_table_follows_from_its_formula(self):
        text = (LAUNCH / "README.md").read_text()
        rows = re.findall(r"^\| (?:TPU v\w+|[AH]100) \|(.*)\|$", text, re.M)
        assert len(rows) == 6
        forward = 505.6e9
        for row in rows:
            peak, plain, taught, *hours = (float(cell) for cell in row.split("|"))
            used = 0.35 * peak * 1e12
            assert plain == pytest.approx(used / (3 * forward), abs=0.051)
            assert taught == pytest.approx(used / (4 * forward), abs=0.051)
            for images, cell in zip((24_183, 18_176, 2_000), hours, strict=True):
                flop = images * forward * (160 * 3 + 40 * 4 + 5)
                assert cell == pytest.approx(flop / used / 3600, abs=0.051)

    def test_it_names_only_subcommands_and_settings_that_exist(self):
        text = (LAUNCH / "README.md").read_text()
        for script, word in re.findall(
            r"launch/(\w+\.sh) --settings helen\.env (?:--dry_run )?([a-z]+)", text
        ):
            assert (script, word) in [*ALL, ("gke.sh", "show")]
        known = re.search(r"setting_names=\(([^)]*)\)", (LAUNCH / "settings.sh").read_text())[1]
        named = set(re.findall(r"\b((?:GKE|SLURM|TPU)_[A-Z_]+[A-Z])\b", text))
        assert named <= set(known.split())
