"""Which of several faces are labelled."""

import json

import colour_network
import cv2
import numpy as np
import pytest
from colour_network import interior, picture, truth

from dmlcsr_jax import FaceParser
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import face_parser, faces

CELLS = np.random.default_rng(1).integers(1, 9, (10, 30))
IMAGE = picture(CELLS)  # 160 x 480.
# Found in no order: small at the left, large at the right, the middle one between them in size.
BOXES = [(32, 48, 64, 80), (380, 40, 460, 120), (216, 56, 264, 104)]
# So surely that their maps are not doubted.
FOUND = [faces.Face(box, 0.95) for box in BOXES]


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    colour_network.install(monkeypatch.setattr, size=128)


def parse(**options):
    options = {"wide_margin": 0, "margin": 0.0} | options
    return FaceParser("any", faces=lambda image: FOUND, **options)(IMAGE)


def test_faces_come_by_their_size():
    result = parse()
    assert [face.box for face in result.faces] == [BOXES[1], BOXES[2], BOXES[0]]
    assert result.main_face.box == BOXES[1]
    assert [face.number for face in result.faces] == [0, 1, 2]


@pytest.mark.parametrize(
    ("face", "number"), [("largest", 0), ("central", 1), (0, 0), ("1", 1), (2, 2)]
)
def test_one_face_is_labelled_and_nothing_else(face, number):
    result = parse(face=face)
    assert len(result.faces) == 3
    np.testing.assert_array_equal(np.unique(result.instances), [0, number + 1])
    left, top, right, bottom = map(int, result.faces[number].box)
    inside = np.zeros(IMAGE.shape[:2], bool)
    inside[top:bottom, left:right] = True
    clear = interior(CELLS) & inside
    np.testing.assert_array_equal(result.label[clear], truth(CELLS)[clear])
    assert not result.label[~inside].any()


def test_a_face_that_is_not_there_leaves_background():
    result = parse(face=3)
    assert len(result.faces) == 3
    assert not result.label.any()


def test_wide_views_of_the_chosen_face_leave_the_others_parts():
    result = parse(face=2, wide_margin=2.0)
    numbers = np.unique(result.instances)
    np.testing.assert_array_equal(numbers, [0, 3])


@pytest.mark.parametrize("face", ["biggest", -1, "-1", 1.5])
def test_other_choices_are_refused(face):
    with pytest.raises(UserError, match="it must be all, largest, central, or a number from 0"):
        parse(face=face)


def test_the_command_line_chooses_too(run, tmp_path, monkeypatch):
    monkeypatch.setattr(face_parser, "detector_of", lambda way: lambda image: FOUND)
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE[..., ::-1])
    arguments = ("--json", "--wide_margin=0", "--margin=0")
    status, output, _ = run(tmp_path, *arguments, "--face=central", out=tmp_path / "out")
    assert status == 0
    found = json.loads(output)
    areas = [sum(face["pixels"].values()) for face in found["faces"]]
    assert areas[0] == areas[2] == 0 < areas[1]
    status, _, errors = run(tmp_path, "--face=widest", out=tmp_path / "out")
    assert status == 1
    assert "face is 'widest'" in errors


def test_no_faces_no_choice():
    assert faces.choose([], (10, 10), "largest") == []
