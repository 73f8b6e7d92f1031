"""The uninterrupted runs that others are compared with."""

import os

import pytest
from multi_process.runs import Run


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Compiled programs are shared between all runs of these tests, or kept where JAX is told."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or tmp_path_factory.mktemp("compiled")
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory, cache):
    """Returns the workdir and the ticks' callers of a finished run on so many processes."""
    finished = {}

    def get(processes):
        if processes not in finished:
            folder = tmp_path_factory.mktemp(f"uninterrupted_{processes}")
            Run(folder / "run", processes=processes, ticks=folder / "ticks", env=cache).finish()
            callers = (folder / "ticks").read_text().split()
            finished[processes] = folder / "run", callers
        return finished[processes]

    return get
