"""The last lines of a run say which pictures not to trust."""

import dataclasses

import colour_network
import cv2
import numpy as np
import pytest
from colour_network import picture

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import face_parser
from dmlcsr_jax.predict.faces import Face
from dmlcsr_jax.predict.report import AlreadyLabelled, Labelled, Report


def finish(report, tmp_path, capsys):
    class Options:
        process_index, process_count = 0, 1

    report.finish(tmp_path, 2.0, {}, Options)
    return capsys.readouterr().out


def test_doubts_and_pictures_without_a_face_are_counted(tmp_path, capsys):
    report = Report()
    report.add(Labelled("a.jpg"))
    report.add(Labelled("b.jpg", is_faceless=True))
    report.add(Labelled("c.jpg", doubts=("small", "small", "turned")))
    report.add(Labelled("d.jpg", doubts=("small",)))
    report.add(AlreadyLabelled("e.jpg"))
    report.add(UserError("f.jpg is empty."))
    output = finish(report, tmp_path, capsys)
    assert "4 labelled" in output
    assert "no face was found in b.jpg: all is background there" in output
    assert "do not trust without a look: 2 pictures, the first c.jpg (small 2, turned 1)" in output


def test_a_licence_forges_no_lines(run, tmp_path, monkeypatch):
    forged = dataclasses.replace(colour_network.METADATA, license="free\nerror: \x1b[2J\ud800")
    monkeypatch.setattr(colour_network, "METADATA", forged)
    colour_network.install(monkeypatch.setattr)
    cv2.imwrite(str(tmp_path / "a.png"), picture(np.zeros((2, 2), int)))
    status, output, _ = run(tmp_path / "a.png", out=tmp_path / "out")
    assert status == 0
    assert "weights: free\\nerror: \\x1b[2J?\n" in output


def test_nothing_is_said_of_pictures_without_doubt(tmp_path, capsys):
    report = Report()
    report.add(Labelled("a.jpg"))
    assert finish(report, tmp_path, capsys).count("\n") == 1


@pytest.mark.parametrize("boxes", [[], [(8, 8, 40, 40)]])
def test_a_run_says_where_no_face_was_found(run, tmp_path, monkeypatch, boxes):
    colour_network.install(monkeypatch.setattr)
    monkeypatch.setattr(
        face_parser, "detector_of", lambda way: lambda image: [Face(box, 0.95) for box in boxes]
    )
    cv2.imwrite(str(tmp_path / "lawn.png"), picture(np.zeros((8, 8), int)))
    _, output, _ = run(tmp_path, out=tmp_path / "out")
    assert ("no face was found in lawn.png" in output) == (not boxes)
