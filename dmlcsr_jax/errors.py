"""Errors that a user can mend."""

import errno
import functools
import sys

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class UserError(ValueError):
    """Bad input: its message is one sentence that names the file or value and the mend."""


def exit_on_user_error(main):
    """Wraps an entry point: a `UserError` or a full disk becomes one line and exit status 1."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            sentence = str(error)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            what = error.filename or "the output"
            sentence = f"cannot write {what}: {error.strerror}; make room and start again."
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(1)

    return wrapped
