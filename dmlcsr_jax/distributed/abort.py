"""An abort, held back for seconds so that another thread can say why: no Python runs in it.

Whoever aborts may hold Python's lock or malloc's, and a handler that waits for them never ends.
"""

import ctypes
import os
import pathlib
import signal

# In the kernel's list of signals that a process catches.
_BIT = 1 << (signal.SIGABRT - 1)
_STATUS = pathlib.Path("/proc/self/status")


def hold_back() -> None:
    """Has an abort of this process take six seconds, on Linux; it then ends it in any case.

    The handler is the C library's `sleep`, which may run in one, given the signal's number as
    seconds; it is forgotten as it is entered.
    """
    libc = ctypes.CDLL(None)
    if _STATUS.exists() and hasattr(libc, "sysv_signal"):
        libc.sysv_signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def has_come() -> bool:
    """Returns whether an abort, or a SIGABRT, has come since `hold_back`."""
    if not _STATUS.exists():
        return False
    caught = _STATUS.read_text().partition("SigCgt:")[2].split()[0]
    return not int(caught, 16) & _BIT


def end() -> None:
    """Ends this process by the SIGABRT that has come."""
    os.kill(os.getpid(), signal.SIGABRT)
