"""Labels at the photograph's pixels, by SciPy and by geometry."""

import numpy as np
import pytest
import scipy.ndimage
import sklearn.metrics

from dmlcsr_jax.data import geometry
from dmlcsr_jax.models import label_tiles
from dmlcsr_jax.models import scores as scores_lib

SIZE = 24


@pytest.mark.parametrize("hw", [(24, 24), (37, 61), (90, 40)])
def test_label_from_scores_reads_bilinearly_at_the_original_pixels(hw):
    scores = np.random.default_rng(2).normal(size=(SIZE, SIZE, 5)).astype(np.float32)
    matrix = geometry.box_matrix(geometry.photograph_box(hw), SIZE)
    label = label_tiles.label_from_scores(scores, matrix, hw, SIZE)
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    x, y = np.einsum("ij,jhw->ihw", matrix, np.stack([columns, rows, np.ones(hw)]))
    read = np.stack(
        [
            scipy.ndimage.map_coordinates(scores[..., c], [y, x], order=1, mode="nearest")
            for c in range(5)
        ],
        axis=-1,
    )
    assert label.shape == hw
    assert label.dtype == np.uint8
    best = np.sort(read, axis=-1)
    clear = best[..., -1] - best[..., -2] > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(label[clear], np.argmax(read, axis=-1)[clear])


def test_logits_at_a_quarter_of_the_resolution_are_resized_on_the_way():
    scores = np.random.default_rng(2).normal(size=(7, 7, 5)).astype(np.float32)
    matrix = geometry.box_matrix(geometry.photograph_box((50, 70)), SIZE)
    resized = np.asarray(scores_lib.at_input_size(scores, SIZE))
    assert resized.shape == (SIZE, SIZE, 5)
    expected = label_tiles.label_from_scores(resized, matrix, (50, 70), SIZE)
    found = label_tiles.label_from_scores(scores, matrix, (50, 70), SIZE)
    assert np.mean(found != expected) < 1e-3


def test_large_photograph_in_tiles_equals_one_piece(monkeypatch):
    scores = np.random.default_rng(3).normal(size=(SIZE, SIZE, 5)).astype(np.float32)
    hw = (301, 200)
    matrix = geometry.box_matrix(geometry.photograph_box(hw), SIZE)
    whole = label_tiles.label_from_scores(scores, matrix, hw, SIZE)
    monkeypatch.setattr(label_tiles, "SIDES", (16, 64))
    np.testing.assert_array_equal(label_tiles.label_from_scores(scores, matrix, hw, SIZE), whole)


def test_what_a_crop_does_not_show_is_background():
    scores = np.random.default_rng(4).normal(size=(SIZE, SIZE, 5)).astype(np.float32)
    scores[..., 0] = -100
    for box in [(10, 5, 30, 25), (-20, 30, 12, 50), (-99, -99, 199, 199), (70, 0, 80, 9)]:
        edges = np.array(box, np.float64) - 0.5
        label = label_tiles.label_from_scores(
            scores, geometry.box_matrix(edges, SIZE), (40, 60), SIZE
        )
        # A crop is a square about the box's centre.
        side = max(box[2] - box[0], box[3] - box[1])
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        rows, columns = np.mgrid[:40, :60] + 0.5
        shown = (abs(columns - x) < side / 2) & (abs(rows - y) < side / 2)
        np.testing.assert_array_equal(label != 0, shown)


@pytest.mark.parametrize("box", [(0, 0, 60, 40), (10, 5, 30, 25), (70, 0, 80, 9)])
def test_counts_are_those_of_the_label_map(box, monkeypatch):
    monkeypatch.setattr(label_tiles, "SIDES", (16,))
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(SIZE, SIZE, 5)).astype(np.float32)
    matrix = geometry.box_matrix(np.array(box, np.float64) - 0.5, SIZE)
    kinds = rng.integers(-1, 5, (40, 60)).astype(np.int16)
    counts = label_tiles.counts_from_scores(scores, matrix, kinds, SIZE, num_kinds=5)
    label = label_tiles.label_from_scores(scores, matrix, kinds.shape, SIZE)
    expected = sklearn.metrics.confusion_matrix(
        kinds[kinds >= 0], label[kinds >= 0], labels=range(5)
    )
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int64


def test_kinds_that_no_pixel_has_are_counted_as_none():
    scores = np.zeros((SIZE, SIZE, 3), np.float32)
    matrix = geometry.box_matrix(geometry.photograph_box((20, 20)), SIZE)
    kinds = np.full((20, 20), -1, np.int16)
    kinds[3, 4] = 2
    counts = label_tiles.counts_from_scores(scores, matrix, kinds, SIZE, num_kinds=4)
    np.testing.assert_array_equal(counts, [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]])
