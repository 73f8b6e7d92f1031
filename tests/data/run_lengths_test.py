"""Run lengths against decoders written from the tools' descriptions."""

import numpy as np
import pytest
from drawn_masks import blobs, brush_decoded, cvat_decoded

from dmlcsr_jax.data.run_lengths import brush_runs, cvat_runs, from_brush_runs, from_cvat_runs
from dmlcsr_jax.errors import UserError


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_the_mask(seed):
    mask = blobs(seed)
    lengths, box = cvat_runs(mask)
    np.testing.assert_array_equal(cvat_decoded(lengths, box, mask.shape), mask)
    np.testing.assert_array_equal(from_cvat_runs(lengths, box, mask.shape), mask)
    runs = brush_runs(mask)
    np.testing.assert_array_equal(brush_decoded(runs), np.repeat(mask.ravel() * 255, 4))
    np.testing.assert_array_equal(from_brush_runs(runs, mask.shape), mask)


def test_runs_longer_than_their_sixteen_bits_are_several():
    mask = np.zeros((200, 200), bool)
    mask[190:] = True
    runs = brush_runs(mask)
    np.testing.assert_array_equal(brush_decoded(runs), np.repeat(mask.ravel() * 255, 4))


@pytest.mark.parametrize(
    ("data", "message"),
    [([0, 0], "cut off"), ([300], "no list of bytes"), (brush_runs(blobs(0)), "not of 5x5 pixels")],
)
def test_damaged_brush_strokes_are_refused(data, message):
    with pytest.raises(UserError, match=message):
        from_brush_runs(data, (5, 5))


@pytest.mark.parametrize(
    ("lengths", "box"),
    [([3], (0, 0, 2, 2)), ([-1, 5], (0, 0, 2, 2)), ([2**40], (0, 0, 2**20, 2**20)), ([], (0,) * 4)],
)
def test_runs_that_do_not_fill_their_box_are_refused(lengths, box):
    with pytest.raises(UserError, match="do not fill its box"):
        from_cvat_runs(lengths, box, (5, 5))
