"""Keeps what JAX compiles in a folder, so that the next start need not compile it again."""

import logging
import os
import pathlib
import tempfile

_LOG = logging.getLogger(__name__)
_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def keep() -> None:
    """Names `~/.cache/dmlcsr_jax` (or that of `XDG_CACHE_HOME`) to JAX, which reads it at import.

    `JAX_COMPILATION_CACHE_DIR` has its way where it is set. A folder that cannot be written costs a
    warning. For runs of one process: processes on GPUs tune their programs together as they compile
    them, and would wait for one that found its own here.
    """
    if _VARIABLE in os.environ:
        return
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = pathlib.Path(base).expanduser() / "dmlcsr_jax"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        _LOG.warning(
            "compiled programs are not kept for the next start (%s); set %s to a folder that can "
            "be written.",
            error,
            _VARIABLE,
        )
        return
    os.environ[_VARIABLE] = str(folder)
