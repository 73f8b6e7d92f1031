"""Shared fixtures; XLA is given eight host devices before JAX starts."""

import os
import pathlib

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import pytest
from absl import flags

# Grain's worker processes read absl flags, which pytest never parses.
flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder of real photographs and golden files beside the project; skips without it."""
    path = pathlib.Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return path
