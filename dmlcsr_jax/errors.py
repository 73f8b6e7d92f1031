"""Errors that a user can fix, said in one sentence."""

import contextlib
import errno
import functools
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

# Of an OSError: the disk, or the user's quota of it, is full.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class UserError(ValueError):
    """Bad input: its message names the file or value, and says how to fix it."""


def one_line(text: str) -> str:
    """Returns a text on one line, as file names may hold anything a terminal or a log obeys.

    Bytes that no text has become "?", and what cannot be printed is written as Python does, "\\n".
    """
    text = text.encode(errors="replace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Returns every field in which two descriptions differ, with both values; "" if none."""
    return "; ".join(
        f"{name} ({there.get(name)!r} there, {here.get(name)!r} here)"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    )


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or what kind it is of where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def sentence_of(error: BaseException) -> str | None:
    """Returns what to tell the user of a `UserError` or a full disk; None for other errors."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        what = error.filename or "the output"
        return f"cannot write {what}: {error.strerror}; make room and start again."
    return None


def exit_on_user_error(main):
    """Wraps an entry point: a `UserError` or a full disk becomes one line and exit status 1.

    Ctrl-C becomes one line too, and exit status 130; also where SIGINT was ignored by inheritance,
    as in a script's background jobs. Where nobody reads the output any more, as after `| head`, the
    exit status is that of a command which SIGPIPE ended.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return main(*args, **kwargs)
        except BrokenPipeError:
            # Else Python says so again when it flushes what is left.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print("stopped: nobody reads the output any more", file=sys.stderr)
            sys.exit(128 + signal.SIGPIPE)
        except (UserError, OSError) as error:
            sentence = sentence_of(error)
            if sentence is None:
                raise
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        print(f"error: {one_line(sentence)}", file=sys.stderr)
        sys.exit(1)

    return wrapped
