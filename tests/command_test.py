"""`dmlcsr COMMAND`."""

import subprocess
import sys

import pytest

from dmlcsr_jax import __main__ as command
from dmlcsr_jax.export import __main__ as export


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_without_a_command_all_are_listed(arguments, capsys):
    assert command.main(arguments) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in ("predict", "train", "evaluate", "convert"))


def test_an_unknown_command_is_said_in_a_sentence(capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["parse"])
    assert caught.value.code == 1
    assert "no command 'parse'; choose one of predict, demo, " in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["predict", "demo", "prepare", "export", "ship", "convert", "experiments"]
)
def test_each_command_explains_itself(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pytest"])  # It is put back afterwards.
    with pytest.raises(SystemExit) as caught:
        command.main([name, "--help"])
    assert caught.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_a_command_gets_its_arguments(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    arguments = [f"--out={tmp_path}/model.pt"]
    said = []
    for run in (lambda: command.main(["export", *arguments]), lambda: export.main(arguments)):
        with pytest.raises(SystemExit) as caught:
            run()
        said.append((caught.value.code, capsys.readouterr().err))
    assert said[0] == said[1]
    assert said[0][0] == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("train", "no config 'nowhere'"), ("evaluate", "no config 'nowhere'")],
)
def test_those_of_training_hand_over_to_its_flags(name, sentence, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "dmlcsr_jax", name, "--config=nowhere", f"--workdir={tmp_path}"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("export", ["--to=model.pt"], ["--out=model.pt"]),
        ("ship", ["--checkpoint=nowhere", "--to=a/b"], ["--checkpoint=nowhere", "--out=a/b"]),
        ("convert", ["--from=a", "--to=b"], ["--checkpoint=a", "--out=b"]),
        (
            "prepare",
            ["--dataset=helen", "--source=nowhere", "--to=b"],
            ["--dataset=helen", "--root=nowhere", "--out=b"],
        ),
    ],
)
def test_names_of_arguments_from_before_mean_the_same(
    name, old, new, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    said = []
    for arguments in (old, new):
        with pytest.raises(SystemExit) as caught:
            command.main([name, *arguments])
        said.append((caught.value.code, capsys.readouterr().err))
    assert said[0] == said[1]
    assert said[0][0] == 1
