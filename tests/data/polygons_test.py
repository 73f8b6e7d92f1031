"""Polygons of masks, drawn again by OpenCV."""

import cv2
import numpy as np
import pytest
from drawn_masks import blobs

from dmlcsr_jax.data.polygons import mask_of, polygons_of


@pytest.mark.parametrize("seed", range(6))
def test_polygons_with_every_pixel_are_the_mask(seed):
    mask = blobs(seed)
    np.testing.assert_array_equal(mask_of(polygons_of(mask, tolerance=0), mask.shape), mask)


@pytest.mark.parametrize("seed", range(6))
def test_polygons_with_fewer_points_stay_within_half_a_pixel_of_the_outline(seed):
    mask = cv2.resize(blobs(seed).astype(np.float32), None, fx=6, fy=6) > 0.5
    polygons = polygons_of(mask)
    assert sum(map(len, polygons)) < 0.8 * sum(map(len, polygons_of(mask, tolerance=0)))
    back = mask_of(polygons, mask.shape)
    # Pixels are 1 apart: what is moved by half of one changes those at the outline alone.
    depth = [cv2.distanceTransform(np.uint8(side), cv2.DIST_L2, 5) for side in (mask, ~mask)]
    assert np.maximum(*depth)[back != mask].max(initial=0) < 1.5


def test_polygons_of_nothing_one_pixel_and_a_line():
    mask = np.zeros((5, 7), bool)
    assert polygons_of(mask) == []
    mask[1, 2] = mask[3, 1:6] = True
    polygons = polygons_of(mask)
    assert all(len(polygon) >= 3 for polygon in polygons)
    np.testing.assert_array_equal(mask_of(polygons, mask.shape), mask)


def test_polygons_far_outside_are_cut_off():
    square = np.array([[-1e12, -1e12], [1e12, -1e12], [1e12, 1e12], [-1e12, 1e12]])
    assert mask_of([square], (4, 6)).all()
