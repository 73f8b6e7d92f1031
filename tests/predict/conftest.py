import colour_network
import pytest

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
