"""Random changes of colours."""

import numpy as np
import pytest

from dmlcsr_jax.data.colour import jitter

# OpenCV computes in fixed point.
TOLERANCE = 0.75
GREY = np.array([0.299, 0.587, 0.114])


class Draws:
    """A generator whose draws are known."""

    def __init__(self, *values):
        self.values = np.array(values)

    def uniform(self, low, high, count):
        assert (low, high, count) == (-1, 1, 3)
        return self.values


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(60, 160, (16, 12, 3), np.uint8)


def test_no_change_draws_nothing(image):
    assert jitter(image, None, 0.0, 0.0, 0.0) is image


@pytest.mark.parametrize("draw", [-1, 1, 0.5])
def test_each_change_is_as_said(image, draw):
    grey = (image @ GREY)[..., None]
    expected = {
        (0.2, 0, 0): image * (1 + 0.2 * draw),
        (0, 0.2, 0): grey.mean() + (image - grey.mean()) * (1 + 0.2 * draw),
        (0, 0, 0.2): grey + (image - grey) * (1 + 0.2 * draw),
    }
    for limits, changed in expected.items():
        found = jitter(image, Draws(draw, draw, draw), *limits)
        assert found.dtype == np.uint8
        np.testing.assert_allclose(found, changed, atol=TOLERANCE)


def test_the_order_is_saturation_contrast_brightness(image):
    grey = (image @ GREY)[..., None]
    saturated = grey + (image - grey) * 0.7
    contrasted = grey.mean() + (saturated - grey.mean()) * 1.2
    found = jitter(image, Draws(-1, 1, -1), 0.1, 0.2, 0.3)
    np.testing.assert_allclose(
        found, contrasted * 0.9, atol=0.75
    )  # OpenCV computes in fixed point.


def test_bright_colours_are_cut_off_at_white(image):
    assert jitter(image, Draws(1, 0, 0), 1.0, 0.0, 0.0).max() == 255
