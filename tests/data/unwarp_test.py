import math

import numpy as np
import pytest
import scipy.ndimage

from dmlcsr_jax.data import unwarp
from dmlcsr_jax.data.geometry import box_matrix

SIZE = 41
CELLS = 21
HW = (60, 70)
EDGE = 0.25  # Half an input pixel, in cells.


def grid(box, degrees=0.0, cells=CELLS):
    matrix = box_matrix(np.array(box) - 0.5, SIZE, margin=0.1, angle=math.radians(degrees))
    return unwarp.grid_matrix(matrix, SIZE, cells)


def points(matrix, place):
    """Where the pixels of a place lie on the grid, x and y, float64."""
    rows, columns = np.mgrid[place]
    return np.einsum("ij,jhw->ihw", matrix, np.stack([columns, rows, np.ones(rows.shape)]))


def read(scores, matrix, place):
    """Exact interpolation in float64, `[h, w, C]`; the border goes on."""
    x, y = points(matrix, place)
    channels = np.moveaxis(np.float64(scores), 2, 0)
    sampled = [scipy.ndimage.map_coordinates(c, [y, x], order=1, mode="nearest") for c in channels]
    return np.stack(sampled, axis=-1)


def smooth_scores(seed, cells=CELLS, classes=19, sigma=2.0):
    noise = np.random.default_rng(seed).normal(size=(cells, cells, classes))
    return scipy.ndimage.gaussian_filter(noise, (sigma, sigma, 0)).astype(np.float32)


BOXES = [(10, 5, 40, 35), (-20, 30, 12, 50), (-99, -99, 199, 199), (30, 20, 33, 23)]


def test_the_grids_corners_lie_on_the_inputs():
    matrix = box_matrix(np.array([3.0, 5, 40, 50]), SIZE, margin=0.2, angle=0.3)
    found = unwarp.grid_matrix(matrix, SIZE, CELLS)
    # Input pixels 0, 10 and 40 of 41 are the grid's points 0, 5 and 20 of 21.
    for pixel, point in ((0, 0), (10, 5), (40, 20)):
        at = np.linalg.solve(matrix[:, :2], np.full(2, pixel) - matrix[:, 2])
        np.testing.assert_allclose(found @ (*at, 1), np.full(2, point), atol=1e-9)


def test_from_one_views_points_to_anothers():
    one, other = grid(BOXES[0], 30), grid(BOXES[1], -75)
    at = np.array([17.0, 23.0, 1.0])
    there = unwarp.between(one, other) @ (*(other @ at), 1.0)
    np.testing.assert_allclose(there, one @ at, atol=1e-9)


@pytest.mark.parametrize("degrees", [0, 30, -75, 90, 180])
@pytest.mark.parametrize("box", BOXES)
def test_labels_are_those_of_exact_interpolation(box, degrees):
    scores, matrix = smooth_scores(0), grid(box, degrees)
    place = unwarp.region(matrix, CELLS, HW, EDGE)
    found = unwarp.label_map(scores, matrix, place)
    exact = read(scores, matrix, place)
    second, best = np.sort(exact, axis=-1)[..., -2:].transpose(2, 0, 1)
    sure = best - second > 1e-6
    assert found.dtype == np.uint8
    assert found.shape == exact.shape[:2]
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(found[sure], exact.argmax(-1)[sure])


@pytest.mark.parametrize(("cells", "scale"), [(3, 120), (97, 1.3), (97, 7.7), (33, 0.4)])
@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_labels_at_any_scale(cells, scale, turn):
    hw = (230, 310)
    scores = smooth_scores(1, cells, classes=11, sigma=cells / 12)
    cos, sin = np.cos(turn) / scale, np.sin(turn) / scale
    matrix = np.array([[cos, -sin, 0.4], [sin, cos, -0.7]])
    place = slice(0, hw[0]), slice(0, hw[1])
    exact = read(scores, matrix, place)
    found = unwarp.label_map(scores, matrix, place)
    chosen = np.take_along_axis(exact, found[..., None].astype(int), -1)[..., 0]
    np.testing.assert_allclose(chosen, exact.max(axis=-1), rtol=0, atol=1e-6)


def test_of_equal_classes_the_lowest_is_taken():
    scores = np.zeros((CELLS, CELLS, 5), np.float32)
    scores[..., 0] = -1
    label = unwarp.label_map(scores, grid(BOXES[0]), (slice(0, 60), slice(0, 70)))
    assert (label == 1).all()


def test_what_is_hidden_need_not_be_right_and_the_rest_is():
    scores, matrix = smooth_scores(2), grid((0, 0, 600, 600))
    place, hidden = (slice(50, 500), slice(20, 560)), (slice(100, 480), slice(0, 600))
    found = unwarp.label_map(scores, matrix, place, [hidden])
    expected = unwarp.label_map(scores, matrix, place)
    matters = np.ones((600, 600), bool)
    matters[hidden] = False
    np.testing.assert_array_equal(found[matters[place]], expected[matters[place]])
    assert (found != expected).any()


@pytest.mark.parametrize("strip_scores", [unwarp._STRIP_SCORES, 300])
@pytest.mark.parametrize("degrees", [0, 30, -75, 90, 180])
@pytest.mark.parametrize("box", BOXES[:3])
def test_what_a_turned_view_shows_is_read_where_it_is(monkeypatch, box, degrees, strip_scores):
    monkeypatch.setattr(unwarp, "_STRIP_SCORES", strip_scores)
    scores, matrix = smooth_scores(3, classes=5), grid(box, degrees)
    place = unwarp.region(matrix, CELLS, HW, EDGE)
    strips = list(unwarp.strips(scores, matrix, place))
    assert [strip[0][0].start for strip in strips[1:]] == [s[0][0].stop for s in strips[:-1]]
    found = np.concatenate([strip for _, strip in strips])
    np.testing.assert_allclose(found, read(scores, matrix, place), rtol=0, atol=1e-5)


@pytest.mark.parametrize("degrees", [0, 30, -75, 90, 180])
@pytest.mark.parametrize("box", BOXES[:3])
def test_a_view_shows_what_its_square_holds(box, degrees):
    matrix = grid(box, degrees)
    place = unwarp.region(matrix, CELLS, HW, EDGE)
    shown = np.zeros(HW, bool)
    shown[place] = unwarp.is_shown(matrix, CELLS, place, EDGE)
    x, y = points(matrix, (slice(0, HW[0]), slice(0, HW[1])))
    half = (CELLS - 1) / 2
    distance = np.maximum(abs(x - half), abs(y - half)) - half - EDGE
    # On the edge itself rounding decides.
    clear = abs(distance) > 1e-6
    np.testing.assert_array_equal(shown[clear], distance[clear] < 0)


@pytest.mark.parametrize("angle", [0.0, 0.5])
@pytest.mark.parametrize("box", [(100, 0, 110, 9), (-30, 0, -15, 9), (0, 200, 9, 220)])
def test_a_view_beside_the_photograph_shows_nothing(angle, box):
    matrix = unwarp.grid_matrix(box_matrix(np.array(box), SIZE, angle=angle), SIZE, CELLS)
    place = unwarp.region(matrix, CELLS, (40, 50), EDGE)
    assert not unwarp.is_shown(matrix, CELLS, place, EDGE).any()
    shape = unwarp.label_map(smooth_scores(4), matrix, place).shape
    assert shape == tuple(max(part.stop - part.start, 0) for part in place)
