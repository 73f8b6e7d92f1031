import colour_network
import pytest

from dmlcsr_jax.predict.__main__ import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command line on the colour network: returns exit status, stdout, stderr."""
    colour_network.install(monkeypatch.setattr)

    def run(*arguments, out, checkpoint="any"):
        status = 0
        try:
            main([*map(str, arguments), f"--checkpoint={checkpoint}", f"--out={out}"])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run
