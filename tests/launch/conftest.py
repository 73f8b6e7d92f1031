"""The bench of every test of the launch scripts."""

import pytest
from launch_bench import Bench, make_checkout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    make_checkout(folder)
    return folder


@pytest.fixture
def bench(tmp_path, checkout):
    return Bench(tmp_path, checkout)
