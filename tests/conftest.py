"""Shared fixtures; XLA is given eight host devices before JAX starts."""

import atexit
import os
import pathlib
import tempfile

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
# What several tests and the programs that they start compile is compiled once a session.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="compiled_")
    atexit.register(_cache.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import pytest
from absl import flags

# Grain's worker processes read absl flags, which pytest never parses.
flags.FLAGS.mark_as_parsed()


# Files of the longest tests, together about half of the suite's time.
_LONG = {"multi_process", "main_test.py", "package_test.py", "loop_test.py", "parity_test.py"}


def pytest_collection_modifyitems(items):
    """Puts long files first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: _LONG.isdisjoint(item.path.parts))


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder of real photographs and golden files beside the project; skips without it."""
    path = pathlib.Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return path
