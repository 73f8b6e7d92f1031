"""Preparing a set by the command, and comparing it with the authors' files, for tests."""

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import prepare
from dmlcsr_jax.data.prepared import PreparedSource
from dmlcsr_jax.data.synthetic import draw_face


def run(dataset, source, to, *options):
    """Runs the command and returns the prepared set's folder."""
    prepare.main(
        [f"--dataset={dataset}", f"--root={source}", f"--out={to}", "--num_workers=1", *options]
    )
    return to


def error(capsys, *arguments):
    """Runs the command and returns its one line of error."""
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 1
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def examples(root, split):
    source = PreparedSource(root, split)
    return {example["name"]: example for example in (source[i] for i in range(len(source)))}


def jpeg_pixels(path):
    """Reads a photograph independently: Pillow instead of OpenCV, both on libjpeg."""
    with PIL.Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def assert_same_photograph(image, path):
    """The same JPEG by two decoders; they may differ by rounding."""
    expected = jpeg_pixels(path)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 2


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)


def face(index, size):
    """A drawn face scaled up, for drawing is slow."""
    image, label = draw_face(index, 96)
    return (
        cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC),
        cv2.resize(label, (size, size), interpolation=cv2.INTER_NEAREST_EXACT),
    )
