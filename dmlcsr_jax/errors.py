"""Errors that a user can mend."""

import functools
import sys


class UserError(ValueError):
    """Bad input: its message is one sentence that names the file or value and the mend."""


def exit_on_user_error(main):
    """Wraps an entry point: a `UserError` becomes one line on stderr and exit status 1."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    return wrapped
