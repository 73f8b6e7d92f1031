"""The launch scripts on a bench: fakes for the clouds' own programs that record their calls."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "launch"

# Records its name and arguments; answers from a file: {part of the call: [[status, output], ...]},
# each answer given once, the last one for ever.
FAKE = f"""#!{sys.executable} -SE
import fcntl, json, os, sys
call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open(os.environ["FAKE_DIR"] + "/lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with open(os.environ["FAKE_DIR"] + "/calls", "a") as calls:
        calls.write(json.dumps(call) + "\\n")
    path = os.environ["FAKE_DIR"] + "/answers"
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


def make_checkout(folder: pathlib.Path) -> None:
    """Makes a checkout with the launch scripts alone, all of them committed."""
    shutil.copytree(LAUNCH, folder / "launch")
    (folder / ".gitignore").write_text("/build/\n")
    git = ["git", "-C", folder, "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q", "--template="], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)


class Bench:
    """A checkout of its own with the launch scripts, fakes first on PATH, and a home."""

    def __init__(self, folder: pathlib.Path, checkout: pathlib.Path):
        self.root = folder / "check out"  # a space: paths are values too
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.logs = folder / "slurm logs"
        for path in (self.home, self.bin):
            path.mkdir()
        shutil.copytree(checkout, self.root)
        for name in ("gcloud", "kubectl", "docker", "sbatch", "scancel", "squeue", "sleep"):
            executable(self.bin / name, FAKE)
        self.env = os.environ | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "FAKE_DIR": str(folder),
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


# Every subcommand of every script.
SUBCOMMANDS = [
    *(("tpu_vm.sh", word) for word in (
        "create", "status", "provision", "start", "logs", "stop", "watch", "teardown", "run")),
    *(("gke.sh", word) for word in (
        "credentials", "image", "create", "start", "status", "logs", "stop", "teardown")),
    *(("slurm.sh", word) for word in ("start", "status", "logs", "stop", "teardown")),
]  # fmt: skip


# In place of training: says what it was told, then does as the file `plan` beside it says.
PROCESS = f"""#!{sys.executable} -SE
import json, os, signal, sys, time
number = next((a.split("=")[1] for a in sys.argv if a.startswith("--process_id=")),
              os.environ.get("SLURM_PROCID", "0"))
home = os.environ["FAKE_DIR"]
plan = json.load(open(home + "/plan"))[int(number)]
def saved(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(plan.get("save", 0))
    print("saved", flush=True)
    sys.exit(plan.get("saved_status", 143))
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
