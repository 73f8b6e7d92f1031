"""The command line: `python -m dmlcsr_jax.main --config=configs/helen.py --workdir=DIR`."""

import logging
import signal
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from dmlcsr_jax.errors import UserError, exit_on_user_error

_CONFIG = config_flags.DEFINE_config_file("config", None, "The run's config, configs/NAME.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints and results; may be gs://.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval", "check_data"], "What to do with the config."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "teacher", "For --mode=eval: latest, best, teacher, teacher:K, or a path."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where there are several processes."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Find the other processes by the cluster: Cloud TPU, GKE, Slurm."
)


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
    except (
        flags.Error,
        AttributeError,
        ImportError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        text = str(error).strip('"').splitlines()[0]
        print(f"error: {text}", file=sys.stderr)
        sys.exit(1)
    return rest


def _log_to_stderr() -> None:
    """Shows what this package tells; of the libraries only their errors."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    # Orbax raises what it logs, and `checkpointing` makes a sentence of the first of it.
    absl_logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("dmlcsr_jax")
    package.handlers = [handler]
    package.setLevel(logging.INFO)
    package.propagate = False


@exit_on_user_error
def main(_) -> None:
    """Starts the processes' runtime and does what --mode says."""
    _log_to_stderr()
    # Imported here so that a wrong flag is said at once.
    from dmlcsr_jax.check_data import check
    from dmlcsr_jax.distributed import preemption, watchdog
    from dmlcsr_jax.evaluation import evaluate_checkpoint
    from dmlcsr_jax.training import loop

    config, workdir = _CONFIG.value, _WORKDIR.value
    if _MODE.value == "check_data":
        check.check_config_data(config, workdir)
        return
    preemption.start_distributed(
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        detect_cluster=_DISTRIBUTED.value,
    )
    with watchdog.watched():
        try:
            if _MODE.value == "train":
                loop.train_and_evaluate(config, workdir)
            else:
                watch = preemption.PreemptionWatch()
                evaluate_checkpoint.evaluate_checkpoint(
                    config, workdir, _CHECKPOINT.value, tick=watch.tick
                )
        except preemption.Preempted:
            # What there was to save is saved; what was asked for has not been done.
            sys.exit(128 + signal.SIGTERM)


def run() -> None:
    """Entry point of the console script."""
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
