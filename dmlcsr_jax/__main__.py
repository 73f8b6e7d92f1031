"""One command for all: `dmlcsr COMMAND`, or `python -m dmlcsr_jax COMMAND`."""

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from dmlcsr_jax.errors import UserError, exit_on_user_error


class Command(NamedTuple):
    """What a command hands over to.

    Attributes:
      module: whose command line it is.
      function: of the module, which reads `sys.argv`.
      summary: for the list of commands.
      first: arguments before the user's.
    """

    module: str
    function: str
    summary: str
    first: tuple[str, ...] = ()


COMMANDS = {
    "predict": Command("dmlcsr_jax.predict.__main__", "main", "parse photographs and videos"),
    "demo": Command("dmlcsr_jax.demo.__main__", "main", "parse photographs in the browser"),
    "check-data": Command(
        "dmlcsr_jax.main", "run", "look for faults in a config's data", ("--mode=check_data",)
    ),
    "prepare": Command("dmlcsr_jax.data.prepare", "main", "make a data set ready for training"),
    "train": Command("dmlcsr_jax.main", "run", "train a network, or fine-tune one"),
    "evaluate": Command("dmlcsr_jax.main", "run", "measure a checkpoint", ("--mode=eval",)),
    "export": Command(
        "dmlcsr_jax.export.__main__", "main", "write a file that runs without this project"
    ),
    "ship": Command("dmlcsr_jax.checkpoints.ship", "main", "make two small files of a checkpoint"),
    "convert": Command(
        "dmlcsr_jax.convert_torch.__main__", "main", "take weights from PyTorch, or there"
    ),
    "experiments": Command(
        "dmlcsr_jax.experiments.__main__", "main", "make a campaign of small runs"
    ),
}


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int | None:
    """Runs a command, and returns its exit status.

    Args:
      arguments: the command and its own arguments; None: the process's.
    """
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: dmlcsr COMMAND [ARGUMENT ...]\n")
        print("\n".join(f"  {each:<12} {COMMANDS[each].summary}" for each in COMMANDS))
        print("\ndmlcsr COMMAND --help says what it takes.")
        return 0
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}; choose one of {', '.join(COMMANDS)}.")
    command = COMMANDS[name]
    sys.argv = [f"dmlcsr {name}", *command.first, *rest]
    # Imported here so that the list of commands is there at once.
    return getattr(importlib.import_module(command.module), command.function)()


if __name__ == "__main__":
    sys.exit(main())
