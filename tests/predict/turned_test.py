"""A face that is turned is labelled as the upright one, left and right the subject's."""

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax import FaceParser
from dmlcsr_jax.predict import faces

PARTS = ("skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "u_lip", "l_lip", "hair")
pytestmark = pytest.mark.skipif(
    faces.default_detector() is None, reason="the extra 'faces' is not installed"
)


def turned(picture, degrees, interpolation, border):
    """The picture turned about its middle, on a canvas that holds it, clockwise."""
    height, width = picture.shape[:2]
    # Even, as the picture is: without a turn no pixel falls between two.
    side = int(np.ceil(np.hypot(height, width) / 2)) * 2
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)
    matrix[:, 2] += ((side - width) / 2, (side - height) / 2)
    return cv2.warpAffine(picture, matrix, (side, side), flags=interpolation, borderValue=border)


@pytest.mark.parametrize(
    "turns",
    [(60, 105, 180, 255), pytest.param(range(0, 360, 15), marks=pytest.mark.slow)],
    ids=["a few", "every 15 degrees"],
)
def test_the_astronaut_however_she_lies(turns):
    parser = FaceParser()
    image = np.array(PIL.Image.open("docs/astronaut.jpg").convert("RGB"))
    upright = parser(image)
    labels = [upright.names.index(part) for part in PARTS]
    found = {}
    for degrees in turns:
        result = parser(turned(image, degrees, cv2.INTER_CUBIC, (127, 127, 127)))
        truth = turned(upright.label, degrees, cv2.INTER_NEAREST, 0)
        pairs = [(result.label == label, truth == label) for label in labels]
        iou = [(ours & true).sum() / (ours | true).sum() for ours, true in pairs]
        of_other_eye = (pairs[2][0] & pairs[3][1]).sum() + (pairs[3][0] & pairs[2][1]).sum()
        found[degrees] = (np.mean(iou), of_other_eye, len(result.faces))
    assert {degrees: values for degrees, values in found.items() if values[0] < 0.85} == {}
    assert {values[1:] for values in found.values()} == {(0, 1)}
