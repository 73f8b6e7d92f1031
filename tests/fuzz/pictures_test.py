"""Bytes of photographs, label maps and masks."""

import cv2
import numpy as np
import pytest
from fuzz.mutation import holds

from dmlcsr_jax.data import decode, label_sets
from dmlcsr_jax.data.builders.records import read_landmarks
from dmlcsr_jax.data.synthetic import draw_face

# Decoders warn of what they then refuse or accept.
pytestmark = pytest.mark.filterwarnings("ignore")
HELEN = label_sets.HELEN


def encoded(suffix, pixels):
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.fixture(scope="module")
def face():
    return draw_face(0, 48)


def test_photographs(face, tmp_path):
    seeds = [encoded(s, face[0]) for s in (".jpg", ".png", ".webp", ".bmp", ".tif")]

    def check(image):
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.size

    holds(seeds, lambda data: decode.decode_image(data, "it"), check, tmp_path=tmp_path)


def test_label_maps(face, tmp_path):
    seeds = [encoded(".png", face[1]), encoded(".bmp", face[1]), encoded(".png", face[1] + 0)]

    def check(label):
        assert label.dtype == np.uint8
        assert label.ndim == 2
        assert ((label < HELEN.num_classes) | (label == HELEN.ignore_label)).all()

    holds(seeds, lambda data: decode.decode_label(data, "it", HELEN), check, tmp_path=tmp_path)


def test_landmarks(tmp_path):
    path = tmp_path / "points.txt"

    def read(data):
        path.write_bytes(data)
        return read_landmarks(path)

    def check(points):
        assert points.shape[1] == 2
        assert np.isfinite(points).all()

    holds([b"2\n1.5 2\n3 4\n", b"0 0\n"], read, check, tmp_path=tmp_path)
