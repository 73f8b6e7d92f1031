"""One training at a time in a workdir."""

import contextlib
import fcntl
from collections.abc import Iterator

import jax
from etils import epath

from dmlcsr_jax.atomic_file import PART
from dmlcsr_jax.errors import UserError

_LOCK = ".lock"


@contextlib.contextmanager
def only_training(workdir: epath.Path) -> Iterator[None]:
    """Refuses a second training in a workdir while its body runs.

    The system gives the lock up with the process, however that ends. Process 0 takes it for all,
    and removes what a killed one has left half-written; there is none in remote workdirs and on
    disks that know no locks.

    Args:
      workdir: a run's folder, which exists.

    Raises:
      UserError: where another training is at work there.
    """
    with contextlib.ExitStack() as held:
        if jax.process_index() == 0 and "://" not in str(workdir):
            with contextlib.suppress(OSError):
                # Opened for writing, as network disks want; nothing is written.
                file = held.enter_context((workdir / _LOCK).open("a"))
                _lock(file, workdir)
                for part in workdir.glob(f".*{PART}"):
                    part.unlink()
        yield


def _lock(file, workdir: epath.Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"another training is at work in {workdir}; wait for its end, stop it, or use another "
            "--workdir."
        ) from error
