"""Masks that are cleaned, grown and feathered, against geometry and scipy."""

import numpy as np
import pytest
import scipy.ndimage

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.mask_shape import Shape

Y, X = np.mgrid[:120, :160]
radius = np.hypot(X - 80, Y - 60)
DISC = radius <= 30
HALF = np.repeat([[False] * 20 + [True] * 20], 8, axis=0)


@pytest.mark.parametrize(("grow", "by"), [(7, 7), (-7, -7), ("5%", 8), ("-5%", -8), ("3.0", 3)])
def test_a_disc_grows_by_so_many_pixels(grow, by):
    grown = Shape(grow=grow).applied(DISC)
    assert grown[radius <= 30 + by - 0.75].all()
    assert not grown[radius > 30 + by + 0.75].any()


@pytest.mark.parametrize("by", range(-4, 5))
def test_a_straight_edge_moves_by_exactly_so_many(by):
    np.testing.assert_array_equal(Shape(grow=by).applied(HALF).sum(axis=1), 20 + by)


def test_growing_and_shrinking_are_each_other_s_mirror():
    mask = np.random.default_rng(0).random((40, 50)) > 0.6
    np.testing.assert_array_equal(Shape(grow=2).applied(mask), ~Shape(grow=-2).applied(~mask))


@pytest.mark.parametrize("mask", [np.zeros((5, 6), bool), np.ones((5, 6), bool)])
def test_nothing_and_everything_stay(mask):
    shape = Shape(grow=3, feather=4, clean=0.5)
    np.testing.assert_array_equal(shape.feathered(mask), mask * 255)


def test_a_feather_is_a_ramp_across_the_edge():
    row = Shape(feather=4).feathered(HALF)[3] / 255
    np.testing.assert_allclose(row[17:23], [0, 0.125, 0.375, 0.625, 0.875, 1], atol=1 / 255)
    assert not row[:17].any()
    assert (row[23:] == 1).all()


def test_small_islands_and_holes_go_and_large_ones_stay():
    mask = DISC.copy()
    mask[5:8, 5:8] = True  # 9 pixels of some 2,800: an island below 1 %.
    mask[5:15, 140:150] = True  # 100: one above.
    mask[58:61, 78:81] = False  # A hole of 9,
    mask[40:50, 75:85] = False  # and one of 100.
    cleaned = Shape(clean=0.01).applied(mask)
    expected = mask.copy()
    expected[5:8, 5:8] = False
    expected[58:61, 78:81] = True
    np.testing.assert_array_equal(cleaned, expected)
    assert Shape(clean=1.0).applied(mask)[60, 55:105].all()
    assert scipy.ndimage.label(Shape(clean=1.0).applied(mask))[1] == 1


def test_what_touches_the_border_is_no_hole():
    mask = np.ones((30, 30), bool)
    mask[0, 10:12] = mask[20:22, 20:22] = False
    expected = mask.copy()
    expected[20:22, 20:22] = True
    np.testing.assert_array_equal(Shape(clean=0.1).applied(mask), expected)


@pytest.mark.parametrize(
    "bad", [{"grow": "1px"}, {"grow": float("nan")}, {"feather": "-1%"}, {"clean": -0.1}]
)
def test_impossible_values_are_named(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        Shape(**bad)


def soft(mask):
    """Its edge rises over some six pixels, and is where the mask's was."""
    return scipy.ndimage.gaussian_filter(mask.astype(np.float32), 1.5, mode="nearest")


@pytest.mark.parametrize("by", [-6.5, -3, -0.5, 0.3, 1, 4.2, "5%"])
@pytest.mark.parametrize("mask", [DISC, np.random.default_rng(0).random((40, 50)) > 0.6])
def test_a_soft_mask_s_levels_grow_as_hard_masks_do(mask, by):
    alpha = soft(mask)
    grown = Shape(grow=by).softened(alpha)
    assert grown.dtype == np.float32
    for level in (0.2, 0.5, 0.9):
        expected = Shape(grow=by).applied(alpha >= level)
        np.testing.assert_array_equal(grown >= level, expected)


def test_a_soft_feather_has_the_variance_of_a_ramp_and_leaves_the_edge():
    row = Shape(feather=12).softened(HALF.astype(np.float32))[3]
    slope, middle = np.diff(row), np.arange(1, 40) - 20.0
    assert slope.sum() == pytest.approx(1, abs=1e-3)
    assert (slope * middle).sum() == pytest.approx(0, abs=1e-3)
    assert (slope * middle**2).sum() == pytest.approx(12**2 / 12, rel=0.03)


def test_soft_islands_and_holes_go_with_their_edges():
    noisy = DISC.copy()
    noisy[5:10, 5:10] = True
    noisy[58:63, 78:83] = False
    cleaned = Shape(clean=0.02).softened(soft(noisy))
    np.testing.assert_allclose(cleaned, soft(DISC), atol=2e-3)
    assert np.abs(soft(noisy) - soft(DISC)).max() > 0.6


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_soft_nothing_and_everything_stay(value):
    alpha = np.full((5, 6), value, np.float32)
    np.testing.assert_array_equal(Shape(3, 4, 0.5).softened(alpha), alpha)
    np.testing.assert_array_equal(Shape(-30, 4, 0.5).softened(alpha), alpha)
