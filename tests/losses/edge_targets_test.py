"""Edge targets against their definition, pixel by pixel, and OpenCV."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmlcsr_jax.losses import edge_targets

IGNORE = 255


def _binary_by_definition(label):
    """Pixel by pixel: one of the four neighbours has another label, neither being ignored."""
    height, width = label.shape
    edge = np.zeros(label.shape, np.int32)
    for y in range(height):
        for x in range(width):
            for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                v, u = y + dy, x + dx
                if 0 <= v < height and 0 <= u < width:
                    here, there = label[y, x], label[v, u]
                    if here != there and IGNORE not in (here, there):
                        edge[y, x] = 1
    return edge


def _random_labels(seed, shape=(3, 13, 17), values=(0, 1, 2, IGNORE)):
    """Blobs of a few pixels, so that there are interiors, borders and ignored regions."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(values, size=(shape[0], shape[1] // 3 + 1, shape[2] // 3 + 1))
    return coarse.repeat(3, 1).repeat(3, 2)[:, : shape[1], : shape[2]].astype(np.int32)


@pytest.mark.parametrize("seed", range(4))
def test_binary_edge_is_its_definition(seed):
    label = _random_labels(seed)
    edge = jax.jit(edge_targets.binary_edge)(label)
    assert edge.dtype == jnp.int32
    np.testing.assert_array_equal(edge, [_binary_by_definition(one) for one in label])


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_edge_width_dilates_as_opencv_does_and_spares_ignored_pixels(width):
    label = _random_labels(7)
    square = np.ones((width, width), np.uint8)
    expected = [
        cv2.dilate(_binary_by_definition(one).astype(np.uint8), square) * (one != IGNORE)
        for one in label
    ]
    assert np.any(np.asarray(expected) == 0)
    np.testing.assert_array_equal(edge_targets.binary_edge(jnp.asarray(label), width), expected)


def test_a_straight_border_is_two_pixels_thick_and_the_rim_is_none():
    label = np.zeros((1, 6, 8), np.int32)
    label[:, :, 4:] = 3
    expected = np.zeros_like(label)
    expected[:, :, 3:5] = 1
    np.testing.assert_array_equal(edge_targets.binary_edge(jnp.asarray(label)), expected)


def test_border_with_an_ignored_region_is_no_edge():
    label = np.full((1, 6, 8), 2, np.int32)
    label[:, 2:4, 3:6] = IGNORE
    for width in (1, 3):
        assert not np.any(edge_targets.binary_edge(jnp.asarray(label), width))


def test_another_ignore_label_is_a_class_like_any():
    label = np.zeros((1, 4, 4), np.int32)
    label[:, :2] = IGNORE
    assert np.any(edge_targets.binary_edge(jnp.asarray(label), 1, ignore_label=254))
    assert not np.any(edge_targets.binary_edge(jnp.asarray(label), 1, ignore_label=IGNORE))


def test_category_edge_is_the_label_at_edges_and_0_elsewhere():
    label = _random_labels(1)
    binary = edge_targets.binary_edge(jnp.asarray(label), 3)
    category = edge_targets.category_edge(jnp.asarray(label), binary)
    assert category.dtype == jnp.int32
    expected = np.zeros_like(label)
    for index in zip(*np.nonzero(np.asarray(binary)), strict=True):
        expected[index] = label[index]
    np.testing.assert_array_equal(category, expected)
    assert set(np.unique(category)) == {0, 1, 2}


def test_uint8_labels_give_the_same_edges():
    label = _random_labels(2)
    np.testing.assert_array_equal(
        edge_targets.binary_edge(jnp.asarray(label, jnp.uint8)),
        edge_targets.binary_edge(jnp.asarray(label)),
    )


def test_width_below_1_is_refused():
    with pytest.raises(ValueError, match="edge width is 0"):
        edge_targets.binary_edge(jnp.zeros((1, 4, 4), jnp.int32), 0)
