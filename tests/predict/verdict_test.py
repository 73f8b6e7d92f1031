"""What no map shows is no face, and pictures without people are background; the package's model."""

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax import FaceParser
from dmlcsr_jax.predict import faces

FALSE_BOXES = ((380, 330, 440, 400), (60, 380, 140, 470))  # On the astronaut's suit.
needs_detector = pytest.mark.skipif(
    faces.default_detector() is None, reason="the extra 'faces' is not installed"
)


@pytest.fixture(scope="module")
def astronaut():
    return np.array(PIL.Image.open("docs/astronaut.jpg").convert("RGB"))


@pytest.fixture(scope="module")
def parser():
    return FaceParser()


@needs_detector
@pytest.mark.parametrize("score", [None, 0.7])
def test_a_false_face_changes_nothing(astronaut, parser, score):
    alone = parser(astronaut)
    [true] = alone.faces
    for box in FALSE_BOXES:
        found = [faces.Face(box, score), faces.Face(true.box, true.score, true.landmarks)]
        result = parser(astronaut, faces=lambda image, found=found: found)
        assert [face.box for face in result.faces] == [true.box]
        np.testing.assert_array_equal(result.label, alone.label)
        np.testing.assert_array_equal(result.instances, alone.instances)


def test_a_box_that_is_given_is_never_doubted(astronaut, parser):
    assert len(parser(astronaut, faces=[FALSE_BOXES[0]]).faces) == 1


def test_where_every_find_is_false_there_is_no_face(parser):
    blue = np.full((300, 400, 3), (40, 90, 200), np.uint8)
    result = parser(blue, faces=lambda image: [(150, 100, 210, 160)])
    assert not result.faces
    assert not result.label.any()


def plain_pictures():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 400)[None, :, None] * np.ones((300, 1, 3))
    noise = rng.integers(0, 256, (300, 400, 3))
    page = np.full((300, 400, 3), 245)
    for line in range(20, 290, 14):
        starts = np.sort(rng.integers(20, 380, 24)).tolist()
        for x in starts:
            page[line : line + 8, x : x + 5] = 30
    return {
        "blue": np.full((300, 400, 3), (40, 90, 200)),
        "beige": np.full((300, 400, 3), (225, 190, 160)),
        "ramp": ramp,
        "noise": noise,
        "coarse noise": cv2.resize(noise[:30, :40].astype(np.float32), (400, 300)),
        "page": page,
    }


@needs_detector
@pytest.mark.parametrize("kind", plain_pictures())
def test_a_picture_without_anybody_is_background(parser, kind):
    result = parser(plain_pictures()[kind].astype(np.uint8))
    assert result.is_searched
    assert not result.faces
    assert (result.label > 0).mean() < 0.01
