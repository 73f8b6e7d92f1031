"""The runs of an experiment one after another, each by the command that repeats it."""

import importlib
import itertools
import json
import pathlib
import pkgutil
import signal
import subprocess
import sys
import time
from types import ModuleType

from dmlcsr_jax import atomic_file
from dmlcsr_jax.configs import experiments
from dmlcsr_jax.configs.experiments import base
from dmlcsr_jax.data.sources import label_set_of, open_roots
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.experiments.record import find_same, read_record, write_record

NAMES = tuple(
    module.name for module in pkgutil.iter_modules(experiments.__path__) if module.name != "base"
)


def open_experiment(name: str) -> ModuleType:
    """Returns the module of an experiment, one of `NAMES`."""
    return importlib.import_module(f"{experiments.__name__}.{name}")


def run_names(experiment: ModuleType) -> list[str]:
    """Returns `RUN-SEED` of all runs, all of a seed before the next, so that early ones compare."""
    return [f"{run}-{seed}" for seed, run in itertools.product(base.SEEDS, experiment.RUNS)]


def run_campaign(
    name: str, root: str, workdir: pathlib.Path, out: pathlib.Path, *, only: str = ""
) -> int:
    """Makes the runs of which there is no record yet; started again, goes on where it was.

    A run whose config another experiment's run has takes over that one's record. A signal ends the
    run that is under way as it ends training: it saves, and goes on next time.

    Args:
      name: of the experiment.
      root: `config.data.root` of the runs.
      workdir: `workdir/NAME/RUN-SEED` is a run's workdir.
      out: `out/NAME/RUN-SEED.json` is its record.
      only: runs whose names begin so.

    Returns:
      0, or the exit status of the run that did not end well.

    Raises:
      UserError: where there are no such photographs, a record is damaged or of another config, a
        run left no results, or no run has such a name.
    """
    experiment = open_experiment(name)
    runs = [run for run in run_names(experiment) if run.startswith(only)]
    if not runs:
        names = ", ".join(experiment.RUNS)
        raise UserError(f"no run of {name} begins with {only!r}; they are {names}.")
    config = experiment.get_config(runs[0])
    config.data.root = root
    for split in (config.data.train_split, config.data.eval_split):
        open_roots(config.data.source, root, split, label_set_of(config.data))
    records = {run: out / name / f"{run}.json" for run in runs}
    missing = [
        run for run, path in records.items() if not read_record(path, experiment.get_config(run))
    ]
    print(f"{name}: {len(missing)} of {len(records)} runs are to be made", flush=True)
    started = time.monotonic()
    for count, run in enumerate(missing, 1):
        print(f"{name}: run {count} of {len(missing)}, {run}", flush=True)
        atomic_file.make_folder(out / name)
        if same := find_same(out, experiment.get_config(run)):
            print(f"{name}: {run} is {same.parent.name}/{same.stem}", flush=True)
            atomic_file.write_text(records[run], same.read_text())
            continue
        if status := _train(command(name, run, root, workdir / name / run)):
            return status
        metrics = _read_metrics(workdir / name / run / "metrics.json")
        write_record(records[run], experiment.get_config(run), metrics)
        seconds = (time.monotonic() - started) / count
        print(
            f"{name}: {run}: mean F1 {100 * metrics['mean_f1']:.2f} %; {seconds:.0f} s a run, "
            f"{seconds * (len(missing) - count) / 60:.0f} min left",
            flush=True,
        )
    return 0


def command(name: str, run: str, root: str, workdir: pathlib.Path) -> list[str]:
    """Returns the command of one run."""
    return [
        *(sys.executable, "-m", "dmlcsr_jax.main"),
        f"--config=experiments/{name}:{run}",
        f"--workdir={workdir}",
        f"--config.data.root={root}",
    ]


def _train(arguments: list[str]) -> int:
    """Runs a command to its end, whatever signal comes, and returns its exit status."""
    child = None

    def end_child(number, frame):
        if child:
            child.terminate()

    before = {
        number: signal.signal(number, end_child) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        child = subprocess.Popen(arguments)
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _read_metrics(path: pathlib.Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"the run left no results in {path}; start the campaign again.") from error
