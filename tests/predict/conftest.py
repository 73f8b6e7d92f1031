import colour_network
import pytest
from prediction_files import save

from dmlcsr_jax.predict.__main__ import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command line on the colour network: returns exit status, stdout, stderr.

    Colours are no faces: none are looked for, unless a test says so.
    """
    colour_network.install(monkeypatch.setattr)

    def run(*arguments, out, checkpoint="any"):
        status = 0
        arguments = [*map(str, arguments)]
        if not any(argument.startswith(("--faces", "--boxes")) for argument in arguments):
            arguments.append("--faces=whole")
        try:
            main([*arguments, f"--checkpoint={checkpoint}", f"--out={out}"])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def refused(run, tmp_path):
    """Asserts that the command line refuses arguments before it writes; returns what it says."""

    def refused(arguments, message):
        save(tmp_path / "photos" / "a.png", colour_network.picture([[1, 2], [3, 4]]))
        status, _, errors = run(tmp_path / "photos", *arguments, out=tmp_path / "out")
        assert status == 1
        assert errors.startswith("error: ")
        assert message in errors
        assert not (tmp_path / "out").exists()
        return errors

    return refused
