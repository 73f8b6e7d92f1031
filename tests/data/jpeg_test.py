"""JPEGs that lack a part from their middle, told from whole ones that cameras write oddly."""

import io
import pathlib

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import decode, jpeg
from dmlcsr_jax.errors import UserError

PORTRAIT = PIL.Image.open(pathlib.Path(__file__).parents[2] / "docs" / "astronaut.jpg")
KINDS = [{}, {"progressive": True}, {"restart_marker_blocks": 4}, {"subsampling": 0}]


def encoded(mode="RGB", **options):
    data = io.BytesIO()
    PORTRAIT.convert(mode).save(data, "JPEG", quality=90, **options)
    return data.getvalue()


def with_stray_bytes(data):
    """Puts three bytes before the first scan."""
    scan = data.index(b"\xff\xda")
    return data[:scan] + b"abc" + data[scan:]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("spoil", [lambda data: data, with_stray_bytes])
def test_without_its_middle_it_is_refused(options, spoil):
    data = encoded(**options)
    rng = np.random.default_rng(0)
    for _ in range(15):
        start = int(rng.integers(len(data) * 0.2, len(data) * 0.7))
        cut = data[:start] + data[start + int(rng.integers(300, len(data) * 0.2)) :]
        with pytest.raises(UserError, match=r"x\.jpg"):
            decode.decode_image(spoil(cut), "x.jpg")


@pytest.mark.parametrize("options", [*KINDS, {"mode": "L"}, {"mode": "CMYK"}])
def test_a_whole_one_is_not(options):
    data = encoded(**options)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    padded = data[:-2] + b"\0" * 30 + data[-2:]
    harmless = [data, with_stray_bytes(data), data + b"maker's notes"]
    for each in harmless if options.get("progressive") else [*harmless, padded]:
        assert jpeg.damage(each) is None
        np.testing.assert_array_equal(decode.decode_image(each, "x.jpg"), expected)
