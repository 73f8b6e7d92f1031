import dataclasses
import io

import numpy as np
import PIL.Image

from dmlcsr_jax import visualization
from dmlcsr_jax.data import label_sets

CELEBA = label_sets.CELEBAMASK_HQ


def test_paint_uses_the_palette_and_grey_for_what_is_no_class():
    label = np.array([[0, 1], [13, 255]], np.uint8)
    painted = visualization.paint(label, CELEBA)
    assert painted.dtype == np.uint8
    assert painted[0, 0].tolist() == list(CELEBA.palette[0])
    assert painted[0, 1].tolist() == list(CELEBA.palette[1])
    assert painted[1, 0].tolist() == list(CELEBA.palette[13])
    assert painted[1, 1].tolist() == [128, 128, 128]


def test_overlay_tints_parts_and_leaves_background_and_ignored_pixels():
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 3), np.uint8)
    label = np.array([[0, 13, 255]], np.uint8)
    mixed = visualization.overlay(image, label, CELEBA, alpha=0.25)
    np.testing.assert_array_equal(mixed[0, 0], image[0, 0])
    np.testing.assert_array_equal(mixed[0, 2], image[0, 2])
    expected = 0.75 * image[0, 1] + 0.25 * np.array(CELEBA.palette[13])
    assert np.abs(mixed[0, 1] - expected).max() <= 0.5
    np.testing.assert_array_equal(
        visualization.overlay(image, label, CELEBA, alpha=1.0)[0, 1], CELEBA.palette[13]
    )


def test_grid_shows_each_tile_in_its_place():
    colours = np.array([[[200, 0, 0], [0, 200, 0]], [[0, 0, 200], [90, 80, 70]]], np.uint8)
    rows = [[np.tile(c, (8, 8, 1)) for c in row] for row in colours]
    sheet = visualization.grid(rows, column_titles=["a", "b"], row_titles=["x", "y"], tile_size=40)
    for colour in colours.reshape(4, 3):
        assert (sheet == colour).all(axis=-1).sum() == 40 * 40
    places = [np.argwhere((sheet == c).all(axis=-1)).mean(axis=0) for c in colours.reshape(4, 3)]
    assert places[0][0] == places[1][0] < places[2][0] == places[3][0]
    assert places[0][1] == places[2][1] < places[1][1] == places[3][1]


def test_grid_cuts_long_titles_instead_of_running_out_of_the_picture():
    tile = np.zeros((10, 10, 3), np.uint8)
    plain = visualization.grid([[tile]], column_titles=["t"], row_titles=["name"], tile_size=100)
    long = visualization.grid([[tile]], column_titles=["t"], row_titles=["x/" * 300], tile_size=100)
    assert long.shape == plain.shape
    assert (long[:, -3:] == 255).all()
    wrapped = visualization.grid([[tile]], column_titles=["word " * 10], tile_size=100)
    assert (wrapped[:, -3:] == 255).all()
    assert (
        wrapped.shape[0] > visualization.grid([[tile]], column_titles=["t"], tile_size=100).shape[0]
    )


def test_legend_has_every_colour_within_its_width():
    for width in (250, 2000):
        legend = visualization.legend(CELEBA, width)
        assert legend.shape[1] == width
        assert (legend[:, -1] == 255).all()
        for colour in CELEBA.palette:
            assert (legend == colour).all(axis=-1).sum() > 50
    assert visualization.legend(CELEBA, 250).shape[0] > visualization.legend(CELEBA, 2000).shape[0]


def test_legend_says_what_short_names_mean():
    plain = dataclasses.replace(CELEBA, classes=tuple(f"part {i}" for i in range(19)))
    # Plain words behind a name take room.
    assert visualization.legend(CELEBA, 400).shape[0] > visualization.legend(plain, 400).shape[0]


def test_png_keeps_red_red():
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[..., 0] = 250
    decoded = PIL.Image.open(io.BytesIO(visualization.png_bytes(picture)))
    np.testing.assert_array_equal(np.asarray(decoded), picture)
