"""The bench of every test of the launch scripts."""

import pytest
from launch_bench import Bench


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)
