"""Where compiled programs are kept."""

import os
import subprocess
import sys

import pytest

from dmlcsr_jax.distributed import compiled_programs

_VARIABLE = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture(autouse=True)
def _no_folder_given(monkeypatch, tmp_path):
    # Set first, so that it has its value again after the test.
    monkeypatch.setenv(_VARIABLE, "")
    monkeypatch.delenv(_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_in_the_home_folder(tmp_path):
    compiled_programs.keep()
    assert os.environ[_VARIABLE] == str(tmp_path / ".cache" / "dmlcsr_jax")
    assert list((tmp_path / ".cache" / "dmlcsr_jax").iterdir()) == []


def test_in_the_cache_folder_of_the_desktop(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    compiled_programs.keep()
    assert os.environ[_VARIABLE] == str(tmp_path / "mine" / "dmlcsr_jax")
    assert not (tmp_path / ".cache").exists()


def test_the_users_own_folder_stays(monkeypatch, tmp_path):
    monkeypatch.setenv(_VARIABLE, "gs://bucket/compiled")
    compiled_programs.keep()
    assert os.environ[_VARIABLE] == "gs://bucket/compiled"
    assert not (tmp_path / ".cache").exists()


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path, caplog):
    (tmp_path / ".cache").write_text("a file")
    with caplog.at_level("WARNING"):
        compiled_programs.keep()
    assert _VARIABLE not in os.environ
    assert str(tmp_path / ".cache") in caplog.text
    assert f"set {_VARIABLE}" in caplog.text


def test_a_second_start_finds_the_program(tmp_path):
    program = (
        "from dmlcsr_jax.distributed import compiled_programs; compiled_programs.keep();"
        "import jax; jax.config.update('jax_log_compiles', True);"
        "jax.jit(lambda x: x * 2 + 1)(3.0).block_until_ready()"
    )
    environment = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    logs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        for _ in range(2)
    ]
    assert "Persistent compilation cache hit" not in logs[0]
    assert "Persistent compilation cache hit" in logs[1]


def test_the_commands_start_before_jax_does():
    """JAX reads the variable when it is imported: later it would be without effect."""
    program = (
        "import sys; import dmlcsr_jax.predict.__main__; from dmlcsr_jax import main;"
        "main.parse_flags(['main', '--config=synthetic', '--workdir=run']);"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
