import math

import numpy as np
import pytest
import scipy.ndimage

from dmlcsr_jax.data import unwarp
from dmlcsr_jax.data.warp import box_matrix

SIZE = 24


def collected(scores, matrix, hw):
    """The strips put together: scores and which pixels are shown."""
    found, shown = np.zeros((*hw, scores.shape[2]), np.float32), np.zeros(hw, bool)
    for place, strip, is_shown in unwarp.strips(scores, matrix, hw):
        assert not shown[place].any()
        found[place], shown[place] = strip, is_shown
    return found, shown


@pytest.mark.parametrize("strip_scores", [unwarp.STRIP_SCORES, 300])
@pytest.mark.parametrize("degrees", [0, 30, -75, 90, 180])
@pytest.mark.parametrize("box", [(10, 5, 40, 35), (-20, 30, 12, 50), (-99, -99, 199, 199)])
def test_what_a_turned_view_shows_is_read_where_it_is(monkeypatch, box, degrees, strip_scores):
    monkeypatch.setattr(unwarp, "STRIP_SCORES", strip_scores)
    hw = (60, 70)
    scores = np.random.default_rng(0).normal(size=(SIZE, SIZE, 5)).astype(np.float32)
    matrix = box_matrix(np.array(box) - 0.5, SIZE, margin=0.1, angle=math.radians(degrees))
    found, shown = collected(scores, matrix, hw)
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    x, y = np.einsum("ij,jhw->ihw", matrix, np.stack([columns, rows, np.ones(hw)]))
    distance = np.maximum(abs(x - (SIZE - 1) / 2), abs(y - (SIZE - 1) / 2)) - SIZE / 2
    # On the edge itself rounding decides.
    clear = abs(distance) > 1e-6
    np.testing.assert_array_equal(shown[clear], distance[clear] < 0)
    for channel in range(5):
        read = scipy.ndimage.map_coordinates(scores[..., channel], [y, x], order=1, mode="nearest")
        # OpenCV reads at 1/32 of a pixel.
        np.testing.assert_allclose(found[..., channel][shown], read[shown], atol=0.2)


def test_a_view_beside_the_photograph_shows_nothing():
    scores = np.zeros((SIZE, SIZE, 3), np.float32)
    for angle in (0.0, 0.5):
        for box in ((100, 0, 110, 9), (-30, 0, -15, 9), (0, 200, 9, 220)):
            matrix = box_matrix(np.array(box), SIZE, angle=angle)
            assert not collected(scores, matrix, (40, 50))[1].any()
