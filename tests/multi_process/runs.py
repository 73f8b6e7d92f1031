"""Runs of the real command line in real processes, and comparisons of what they leave.

They run on the CPU with gloo collectives. Interruptions are put at chosen points by a few lines
around `PreemptionWatch.tick`, which a run passes once a step of training, of re-estimating
statistics and of evaluation; the program itself is as users run it.
"""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from ports import free_port

# What calls `tick`, by the kind of work.
TRAINING, STATISTICS, EVALUATION = "train_to", "statistics_batches", "evaluate"
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
    "--config.optim.learning_rate=0.00001",
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

    def finish(self) -> None:
        assert self.wait() == [0] * len(self.processes), self.output()

    def finish_preempted(self, by=signal.SIGTERM) -> "Run":
        assert self.wait() == [128 + by] * len(self.processes), self.output()
        word = "interrupted" if by == signal.SIGINT else "preempted"
        assert f"{word}: saving step" in self.output()
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
