"""Real processes of the real command line: every split the same, every interruption survived.

Runs on the CPU with gloo collectives. Interruptions are put at chosen points by a few lines around
`PreemptionWatch.tick`, which a run passes once a step of training, of re-estimating statistics and
of evaluation; the program itself is as users run it.
"""

import dataclasses
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ports import free_port

from dmlcsr_jax.checkpoints import model

ROOT = pathlib.Path(__file__).resolve().parents[2]
# An epoch is 2 steps of 8 out of 18 faces; 5 epochs, then two cycles of one epoch. The 5 faces of
# the evaluation set fill no batch, whatever the number of processes.
NUM_STEPS = 14
SMALL = (
    "--config=configs/synthetic.py",
    "--config.data.synthetic.train_examples=18",
    "--config.data.synthetic.eval_examples=5",
    "--config.data.synthetic.size=64",
    "--config.data.image_size=64",
    "--config.data.num_workers=0",
    "--config.model.width=0.25",
    "--config.train.batch_size=8",
    "--config.eval.batch_size=8",
    # So young a network multiplies a rounding error by ten and more in each step at higher rates;
    # the gradients are compared by their norms and by the optimiser's momentum.
    "--config.optim.base_rate=0.00001",
    "--config.train.num_epochs=7",
    "--config.optim.warmup_epochs=1",
    "--config.csr.start_epoch=5",
    "--config.csr.cycle_epochs=1",
    "--config.eval.every_epochs=2",
    "--config.log.every_steps=1",
    "--config.log.panels_every_epochs=7",
    "--config.log.panel_images=1",
)
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
# Compiling is most of the time of such a small run; the result is the same for all processes.
QUICK_COMPILATION = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# JAX looks once a second whether a SIGTERM has come; the step in which it comes lasts longer.
FAULT = """
import os, runpy, signal, sys, time
from dmlcsr_jax.distributed import preemption

original = preemption.PreemptionWatch.tick
point = 0

def tick(self):
    global point
    point += 1
    if path := os.environ.get("TICKS"):
        with open(path, "a") as file:
            file.write(sys._getframe(1).f_code.co_name + "\\n")
    if point == int(os.environ.get("FAULT_POINT", 0)):
        # To a group of its own, readers included, as Slurm and systemd send it.
        os.killpg(0, int(os.environ["FAULT_SIGNAL"]))
        time.sleep(2.5)
    original(self)

preemption.PreemptionWatch.tick = tick
runpy.run_module("dmlcsr_jax.main", run_name="__main__", alter_sys=True)
"""


@dataclasses.dataclass
class Fault:
    """A signal that processes send to themselves and their readers as they pass a point."""

    point: int
    number: signal.Signals
    processes: tuple[int, ...]


class Run:
    """One start of a command on so many processes with so many devices each."""

    def __init__(self, workdir, *args, processes=1, devices=1, fault=None, ticks=None, env=()):
        self.logs = []
        self.processes = []
        port = free_port()
        for index in range(processes):
            environment = (
                os.environ
                | ENVIRONMENT
                | {
                    "XLA_FLAGS": f"{QUICK_COMPILATION} "
                    f"--xla_force_host_platform_device_count={devices}",
                    **dict(env),
                }
            )
            if fault and index in fault.processes:
                environment |= {
                    "FAULT_POINT": str(fault.point),
                    "FAULT_SIGNAL": str(int(fault.number)),
                }
            if ticks and index == 0:
                environment["TICKS"] = str(ticks)
            together = (
                f"--coordinator_address=127.0.0.1:{port}",
                f"--num_processes={processes}",
                f"--process_id={index}",
            )
            log = workdir.with_name(f"{workdir.name}.{time.time_ns()}.log")
            self.logs.append(log)
            with log.open("w") as file:
                self.processes.append(
                    subprocess.Popen(
                        [
                            *(sys.executable, "-c", FAULT),
                            *(f"--workdir={workdir}", *SMALL, *args),
                            *(together if processes > 1 else ()),
                        ],
                        cwd=ROOT,
                        env=environment,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def output(self) -> str:
        return "\n".join(
            f"--- process {index}\n{log.read_text()}" for index, log in enumerate(self.logs)
        )

    def wait(self, seconds=2000) -> list[int]:
        """Returns the exit statuses; kills what is not over in time."""
        end = time.monotonic() + seconds
        try:
            return [p.wait(max(0.1, end - time.monotonic())) for p in self.processes]
        finally:
            self.kill()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def finish(self) -> "Run":
        assert self.wait() == [0] * len(self.processes), self.output()
        return self


def read_tree(path: pathlib.Path):
    """Reads as numpy arrays, whatever processes and devices wrote."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        saved = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        return checkpointer.restore(path, restore_args=as_numpy)


def final_trees(workdir) -> dict:
    return {
        f"{folder}/{item}": read_tree(workdir / folder / item)
        for folder, item in (
            (f"checkpoints/{NUM_STEPS}", "model"),
            (f"checkpoints/{NUM_STEPS}", "train"),
            ("teachers/1", "model"),
            ("teachers/2", "model"),
        )
    }


def record(workdir) -> list[dict]:
    """The run's record without what only the clock decides."""
    lines = (workdir / "scalars.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name != "images_per_second"}
        for line in lines
    ]


def assert_same_bits(workdir, reference) -> None:
    trees, expected = final_trees(workdir), final_trees(reference)
    assert jax.tree.structure(trees) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, trees, expected)
    assert record(workdir) == record(reference)
    ours, theirs = (
        json.loads((path / "metrics.json").read_text()) for path in (workdir, reference)
    )
    assert ours == theirs


def assert_close(workdir, reference, relative, momentum=1e-3) -> None:
    """Losses one by one, tensors by the norm of their difference, the momentum as one vector.

    In float32 a rounding now and then moves a value over the kink of a rectifier, and the gradient
    of a step jumps by more than a rounding: the momentum has a bound of its own.
    """
    ours, theirs = record(workdir), record(reference)
    assert [(r["kind"], r["step"]) for r in ours] == [(r["kind"], r["step"]) for r in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        if mine.pop("kind") == "train":
            del other["kind"]
            assert mine == pytest.approx(other, rel=relative)
    ours, theirs = final_trees(workdir), final_trees(reference)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)

    def take_momentum(trees):
        leaves = jax.tree.leaves(trees[f"checkpoints/{NUM_STEPS}/train"].pop("opt_state"))
        return np.concatenate([np.ravel(leaf) for leaf in leaves])

    def compare(path, mine, other, relative=relative):
        mine, other = np.asarray(mine, np.float64), np.asarray(other, np.float64)
        distance = np.linalg.norm(mine - other)
        assert distance <= relative * np.linalg.norm(other) + relative * 1e-3, (path, distance)

    compare("momentum", take_momentum(ours), take_momentum(theirs), momentum)
    jax.tree_util.tree_map_with_path(compare, ours, theirs)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs are shared between all runs of these tests, or kept where JAX is told."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or tmp_path_factory.mktemp("compiled")
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, cache):
    """Returns the workdir and the ticks' callers of a finished run on so many processes."""
    finished = {}

    def get(processes):
        if processes not in finished:
            folder = tmp_path_factory.mktemp(f"uninterrupted_{processes}")
            Run(folder / "run", processes=processes, ticks=folder / "ticks", env=cache).finish()
            callers = (folder / "ticks").read_text().split()
            finished[processes] = folder / "run", callers
        return finished[processes]

    return get


# Layouts -----------------------------------------------------------------------------------------


def test_two_processes_do_what_one_does(uninterrupted):
    one, two = uninterrupted(1)[0], uninterrupted(2)[0]
    assert_close(two, one, 1e-3)
    for workdir in (one, two):
        assert json.loads((workdir / "metrics.json").read_text())["num_images"] == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "rate", "relative", "momentum"),
    [("float32", 1e-5, 1e-3, 1e-2), ("float64", 1e-2, 1e-8, 1e-8)],
)
def test_every_layout_gives_the_same_run(tmp_path, cache, dtype, rate, relative, momentum):
    env = cache | {"JAX_ENABLE_X64": str(int(dtype == "float64"))}
    for processes, devices in ((1, 1), (1, 8), (2, 1), (2, 4)):
        Run(
            tmp_path / f"{processes}x{devices}",
            f"--config.model.dtype={dtype}",
            f"--config.optim.base_rate={rate}",
            processes=processes,
            devices=devices,
            env=env,
        ).finish()
    for layout in ("1x8", "2x1", "2x4"):
        assert_close(tmp_path / layout, tmp_path / "1x1", relative, momentum)
        metrics = [
            json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("1x1", layout)
        ]
        assert metrics[0]["num_images"] == metrics[1]["num_images"] == 5
        assert metrics[1]["pixel_accuracy"] == pytest.approx(
            metrics[0]["pixel_accuracy"], abs=relative
        )


def arrays_and_their_splits(workdir, step) -> dict:
    """Returns name to shape and saved partition of every array of the model and the momentum."""
    found = {}
    for item in ("model", "train"):
        with ocp.PyTreeCheckpointer() as checkpointer:
            tree = checkpointer.metadata(workdir / "checkpoints" / str(step) / item)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree.item_metadata.tree):
            split = leaf.sharding.partition_spec
            found[f"{item}{jax.tree_util.keystr(path)}"] = leaf.shape, "data" in str(split)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(1, 2), (2, 4)])
def test_a_sharded_run_is_the_replicated_one(tmp_path, cache, processes, devices):
    """Interrupted on the way; the width is such that most arrays are large enough to be split."""
    wide, fsdp = "--config.model.width=1", "--config.mesh.fsdp=True"
    layout = {"processes": processes, "devices": devices, "env": cache}
    Run(tmp_path / "replicated", wide, **layout).finish()
    fault = Fault(9, signal.SIGTERM, (0,))
    Run(tmp_path / "sharded", wide, fsdp, fault=fault, **layout).finish()
    Run(tmp_path / "sharded", wide, fsdp, **layout).finish()
    assert_close(tmp_path / "sharded", tmp_path / "replicated", 1e-3, 1e-2)
    for name, is_split in (("sharded", True), ("replicated", False)):
        arrays = arrays_and_their_splits(tmp_path / name, NUM_STEPS)
        sizes = {array: int(np.prod(shape)) for array, (shape, _) in arrays.items()}
        split = {array for array, (_, has_data) in arrays.items() if has_data}
        assert bool(split) == is_split
        if is_split:
            # Parameters, momentum and teacher alike.
            for part in ("['params']", "trace", "['teacher']"):
                total = sum(sizes[array] for array in sizes if part in array)
                assert sum(sizes[array] for array in split if part in array) > 0.8 * total, part


# Interruptions ------------------------------------------------------------------------------------


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
    run = Run(
        workdir, processes=processes, env=env, fault=Fault(point, signal.SIGTERM, receivers)
    ).finish()
    assert "preempted" in run.output()
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


def test_sigterm_to_one_of_two_processes_loses_nothing(tmp_path, cache, uninterrupted):
    callers = uninterrupted(2)[1]
    # Within the re-estimation of a teacher's statistics: nothing of it is in the state yet.
    point = callers.index("_end_cycle") + 1
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
@pytest.mark.parametrize("caller", ["_train_to", "_end_cycle", "evaluate"])
def test_reading_processes_are_left_out_of_a_sigterm(tmp_path, cache, uninterrupted, caller):
    reference, callers = uninterrupted(1)
    workdir, workers = tmp_path / "run", "--config.data.num_workers=2"
    fault = Fault(callers.index(caller) + 1, signal.SIGTERM, (0,))
    run = Run(workdir, workers, env=cache, fault=fault).finish()
    assert "preempted" in run.output()
    Run(workdir, workers, env=cache).finish()
    assert_same_bits(workdir, reference)


@pytest.mark.slow
def test_ctrl_c_saves_as_sigterm_does(tmp_path, cache, uninterrupted):
    reference, callers = uninterrupted(1)
    run = Run(
        tmp_path / "run", env=cache, fault=Fault(callers.index("evaluate") + 2, signal.SIGINT, (0,))
    )
    run.finish()
    assert "interrupted" in run.output()
    assert "preempted" in run.output()
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
    point = callers.index("_train_to") + 5
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


@pytest.mark.slow
def test_a_loss_that_is_not_finite_leaves_the_batch_of_each_process(tmp_path, cache, uninterrupted):
    metadata, variables = model.load_model(uninterrupted(2)[0] / "teachers" / "2")
    variables["params"]["parsing"]["logits"]["bias"] *= np.nan
    model.save_model(tmp_path / "broken", metadata, **variables)
    broken = f"--config.model.init_from={tmp_path / 'broken'}"
    run = Run(tmp_path / "run", broken, processes=2, env=cache)
    assert run.wait() == [1, 1], run.output()
    for index, log in enumerate(run.logs):
        assert re.search(
            r"^error: .*not finite at step 1 .*cross_entropy nan", log.read_text(), re.M
        )
        with np.load(tmp_path / "run" / f"not_finite_step_1_process_{index}.npz") as batch:
            assert batch["image"].shape == (4, 64, 64, 3)
            assert batch["label"].shape == (4, 64, 64)
    assert not any((tmp_path / "run" / "checkpoints").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"), [((2, 1), (1, 1)), ((1, 1), (2, 1)), ((1, 2), (2, 4))]
)
def test_a_run_goes_on_with_other_processes_and_devices(
    tmp_path, cache, uninterrupted, before, after
):
    workdir = tmp_path / "run"
    fault = Fault(7, signal.SIGTERM, (0,))
    Run(workdir, processes=before[0], devices=before[1], env=cache, fault=fault).finish()
    saved = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert 0 < saved < NUM_STEPS
    Run(workdir, processes=after[0], devices=after[1], env=cache).finish()
    # Data are a function of the step: no example is read twice or left out.
    assert_close(workdir, uninterrupted(1)[0], 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, cache, uninterrupted, processes):
    """In a namespace of its own, with a small disk that grows later."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("unshare may not make a mount namespace here")
    reference, _ = uninterrupted(processes)
    checkpoint = reference / "checkpoints" / str(NUM_STEPS)
    size = sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    disk = tmp_path / "disk"
    disk.mkdir()
    together = f"--num_processes={processes} --process_id=$i --coordinator_address=127.0.0.1:$1"
    run = f"""
    i=0
    while [ $i -lt {processes} ]; do
      "${{@:2}}" {together if processes > 1 else ""} 2>&1 &
      i=$((i + 1))
    done
    while true; do
      wait -n; status=$?
      [ $status -ne 127 ] || break
      echo; echo "status $status" # a progress bar may stand on the line
    done
    """
    command = f"""
    mount -t tmpfs -o size={int(size * 1.6)} none {disk}
    {run}
    echo "then"
    mount -o remount,size=1g {disk}
    {run}
    cp -r {disk}/run {tmp_path}/run
    """
    environment = os.environ | cache | ENVIRONMENT | {"XLA_FLAGS": QUICK_COMPILATION}
    main = [sys.executable, "-m", "dmlcsr_jax.main", f"--workdir={disk}/run", *SMALL]
    result = subprocess.run(
        ["unshare", "-rm", "bash", "-c", command, "bash", str(free_port()), *main],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    full, grown = result.stdout.split("then\n")
    assert re.findall(r"^status (\d+)$", full, re.M) == ["1"] * processes, result.stdout
    assert re.findall(r"^status (\d+)$", grown, re.M) == ["0"] * processes, result.stdout
    # Of each its own sentence, or that the other has failed with this one.
    sentence = rf"{disk}/run: No space left on device; that of step \d+ is the newest .* make room"
    assert len(re.findall(sentence, full)) == processes, full
    assert full.count("error: ") == processes, full
    assert "Traceback" not in full, full
    assert_same_bits(tmp_path / "run", reference)


# launch/local.sh ----------------------------------------------------------------------------------


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
    assert interrupted.wait(300) == 0
    assert not (tmp_path / "run" / "metrics.json").exists()
    result = subprocess.run(command, env=environment, capture_output=True, timeout=900)
    # Not as text: a progress bar begins its line anew, which is no new line.
    output = result.stdout.decode()
    assert result.returncode == 0, output + result.stderr.decode()
    assert {line[:4] for line in output.rstrip("\n").split("\n")} == {"[0] ", "[1] "}
    assert_same_bits(tmp_path / "run", uninterrupted(2)[0])
