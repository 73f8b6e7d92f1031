"""Labels at a share of their resolution."""

import numpy as np
import pytest

from dmlcsr_jax.losses.resolution import at_resolution


def test_half_of_an_odd_side_is_every_second_pixel():
    label = np.random.default_rng(0).integers(0, 9, (2, 33, 17))
    np.testing.assert_array_equal(at_resolution(label, 0.5), label[:, ::2, ::2])


@pytest.mark.parametrize("share", [0.25, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("size", [33, 48])
def test_the_corner_pixels_stay_and_the_rest_is_even(size, share):
    label = np.arange(size)[None, :, None] + np.zeros((1, 1, size), int)
    rows = at_resolution(label, share)[0, :, 0]
    assert (rows[0], rows[-1]) == (0, size - 1)
    assert len(rows) == round((size - 1) * share) + 1
    assert np.ptp(np.diff(rows)) <= 1


def test_the_full_resolution_is_the_label_itself():
    label = np.zeros((1, 4, 4))
    assert at_resolution(label, 1.0) is label
