"""The command line: `python -m dmlcsr_jax.main --config=helen --workdir=DIR`."""

import difflib
import importlib.util
import logging
import os
import pathlib
import re
import sys
import traceback

from dmlcsr_jax.distributed import interrupt

if __name__ == "__main__":
    interrupt.install()

import ml_collections
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from dmlcsr_jax import configs
from dmlcsr_jax.configs import default
from dmlcsr_jax.distributed import compiled_programs
from dmlcsr_jax.errors import UserError, exit_on_user_error

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The run's config: the name of a shipped one (helen) or a file (mine.py)."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints and results; may be gs://.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval", "check_data"], "What to do with the config."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "For --mode=eval: latest, best, teacher, teacher:K, default, or path; else what the run ships.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where there are several processes."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Find the other processes by the cluster: Cloud TPU, GKE, Slurm."
)


def _config_file(name: str) -> pathlib.Path:
    """Returns a config's file; shipped ones, `helen` or `configs/helen.py`, are found anywhere."""
    path = pathlib.Path(name)
    if path.suffix == ".py" and path.is_file():
        return path
    folder = pathlib.Path(configs.__file__).parent
    shipped = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in folder.rglob("*.py")
        if file.stem not in ("__init__", "default", "base")
    }
    key = name.removeprefix("configs/").removesuffix(".py")
    if key in shipped and name in (key, f"configs/{key}.py"):
        return shipped[key]
    raise UserError(
        f"there is no config {name!r}; give a .py file or one of {', '.join(sorted(shipped))}."
    )


class _ConfigParser(flags.ArgumentParser):
    """Loads a config; an error in its own code is shown with its traceback."""

    def parse(self, argument):
        """Returns the locked config of `NAME`, `FILE` or `FILE:ARGUMENT` of its `get_config`."""
        name, *rest = argument.split(":", 1)
        path = _config_file(name)
        spec = importlib.util.spec_from_file_location("dmlcsr_jax_config", path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            return module.get_config(*rest).lock()
        except UserError:
            raise
        except Exception:
            traceback.print_exc()
            sys.exit(1)


flags.FLAGS[_CONFIG.name].parser = _ConfigParser()


def _reason(error: BaseException, argv: list[str]) -> str:
    if not isinstance(error, AttributeError | KeyError) or not (unknown := _unknown_fields(argv)):
        return " ".join(str(error).splitlines())
    renamed = [path for path, _, _ in unknown if path in default.RENAMED]
    said = [f"config.{path} is called config.{default.RENAMED[path]} now." for path in renamed]
    start = "the config"
    for path, name, similar in unknown:
        if path not in renamed:
            said.append(f"{start} has no field {name!r}")
            said[-1] += f"; did you mean {similar!r}?" if similar else "."
            start = "It"
    return " ".join(said)


def _unknown_fields(argv: list[str]) -> list[tuple[str, str, str]]:
    """Returns path, field and a similar one, or "", of what a config has not and `argv` names."""
    line = "\n".join(argv)
    config = _ConfigParser().parse(re.search(r"^--?config[=\n](.*)", line, re.M)[1])
    unknown = []
    for path in re.findall(r"^--?config\.([\w.]+)", line, re.M):
        place = config
        for name in path.split("."):
            if not isinstance(place, ml_collections.ConfigDict) or name not in place:
                similar = difflib.get_close_matches(name, getattr(place, "keys", list)(), 1)
                unknown.append((path, name, *(similar or [""])))
                break
            place = place[name]
    return unknown


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; what is wrong with them ends in one sentence and exit status 1."""
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is no flag; see --help.")
        for flag in (_CONFIG, _WORKDIR):
            if flag.value is None:
                raise UserError(f"--{flag.name} is missing; see --help.")
        given = [flag.value is not None for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)]
        if any(given) != all(given):
            raise UserError(
                "--coordinator_address, --num_processes and --process_id go together; give all."
            )
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        print(f"error: {_reason(error, argv)}", file=sys.stderr)
        sys.exit(1)
    return rest


def _log_to_stderr() -> None:
    """Shows what this package tells; of the libraries only their errors."""
    # JAX, not yet imported, would speak of a SIGTERM where Ctrl-C was pressed.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    absl_logging.set_verbosity(absl_logging.ERROR)
    # Orbax raises what it logs, and `checkpoints` makes a sentence of the first of it.
    absl_logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("dmlcsr_jax")
    package.handlers = [handler]
    package.setLevel(logging.INFO)
    package.propagate = False


@exit_on_user_error
def main(_) -> int:
    """Starts the processes' runtime and does what --mode says; returns the exit status."""
    _log_to_stderr()
    if not (_DISTRIBUTED.value or _NUM_PROCESSES.value):
        compiled_programs.keep()
    # Imported here so that a wrong flag is said at once.
    from dmlcsr_jax.check_data import check
    from dmlcsr_jax.distributed import preemption, watchdog
    from dmlcsr_jax.evaluation import evaluate_checkpoint
    from dmlcsr_jax.training import loop

    config, workdir = _CONFIG.value, _WORKDIR.value
    if _MODE.value == "check_data":
        check.check_config_data(config, workdir)
        return 0
    preemption.start_distributed(
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        detect_cluster=_DISTRIBUTED.value,
    )
    interrupt.save_first()
    with watchdog.watched():
        try:
            if _MODE.value == "train":
                loop.train_and_evaluate(config, workdir)
            else:
                watch = preemption.PreemptionWatch()
                evaluate_checkpoint.evaluate_checkpoint(
                    config, workdir, _CHECKPOINT.value, tick=watch.tick
                )
        except preemption.Preempted as stop:
            return stop.exit_status
    return 0


def run() -> None:
    """Entry point of the console command `dmlcsr-train`; what has failed ends at once.

    Python's own end would wait for all threads, and after a failed save Orbax's wait for minutes.
    """
    interrupt.install()
    try:
        app.run(main, flags_parser=parse_flags)
    except SystemExit as end:
        if end.code != 1:
            raise
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    run()
