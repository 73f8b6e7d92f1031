"""What went wrong on disk as a sentence: checkpoints that cannot be written or cannot be read."""

import contextlib
import re
from collections.abc import Iterator

from etils import epath

from dmlcsr_jax.errors import NO_ROOM, UserError, first_line


def storage_failure(error: BaseException) -> tuple[str, str] | None:
    """Returns what is wrong with the storage where a save has failed, and the remedy.

    None where `error` says nothing of the storage.
    """
    # TensorStore tells a full disk in words alone.
    if re.search("no space|quota|RESOURCE_EXHAUSTED", str(error), re.I):
        return "No space left on device", "make room"
    causes = (error, error.__cause__, error.__context__)
    reason = next((cause for cause in causes if isinstance(cause, OSError)), None)
    if reason is None:
        return None
    if reason.errno in NO_ROOM:
        return reason.strerror, "make room"
    return first_line(error), "fix that"


@contextlib.contextmanager
def damage_as_user_error(path: epath.Path, remedy: str) -> Iterator[None]:
    """Makes a sentence of what is raised in its body because the files of a checkpoint are damaged.

    Args:
      path: the checkpoint.
      remedy: what to do about it, for the message.

    Raises:
      UserError: for what Orbax, TensorStore and JSON raise where files are missing, truncated or
        garbled; all else passes.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Of an array that cannot be read Orbax raises a bare Exception; its cause says why.
        cause = error.__cause__ if type(error) is Exception else error
        # Python's JSON parser gives up at some depth of brackets.
        if not isinstance(cause, (OSError, ValueError, RecursionError)):
            raise
        raise UserError(
            f"the checkpoint {path} cannot be read ({first_line(cause)}); {remedy}."
        ) from error
