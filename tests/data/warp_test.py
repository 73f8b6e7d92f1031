"""The warp against closed forms, SciPy and drawn faces."""

import numpy as np
import pytest
from dmlcsr_jax.configs import synthetic as synthetic_config
from scipy import ndimage

from dmlcsr_jax.config import validate
from dmlcsr_jax.data import augmentation, geometry, label_sets, synthetic, unwarp, warp
from dmlcsr_jax.errors import UserError

STILL = augmentation.Augmentation(scale_std=0, rotation_prob=0, mirror_prob=0)


def fit(hw, size):
    return geometry.box_matrix(geometry.photograph_box(hw), size)


def apply(matrix, x, y):
    return matrix @ np.array([x, y, 1.0])


def centroid(label, value):
    y, x = np.nonzero(label == value)
    return x.mean(), y.mean()


@pytest.mark.parametrize(("hw", "size"), [((512, 512), 473), ((300, 480), 96), ((90, 31), 473)])
def test_fit_puts_the_edges_where_the_aspect_says(hw, size):
    height, width = hw
    matrix = fit(hw, size)
    scale = size / max(hw)
    margin_x, margin_y = (size - scale * width) / 2, (size - scale * height) / 2
    # Pixel edges lie half a pixel outside the outermost centres.
    np.testing.assert_allclose(apply(matrix, -0.5, -0.5) + 0.5, (margin_x, margin_y), atol=1e-9)
    np.testing.assert_allclose(
        apply(matrix, width - 0.5, height - 0.5) + 0.5, (size - margin_x, size - margin_y)
    )


def test_no_augmentation_is_the_fit_and_mirroring_reverses_the_columns():
    rng = np.random.default_rng(0)
    fitted = fit((40, 60), 48)
    np.testing.assert_allclose(
        augmentation.random_matrix(geometry.photograph_box((40, 60)), 48, rng, STILL), fitted
    )
    always = augmentation.Augmentation(scale_std=0, rotation_prob=0, mirror_prob=1)
    mirrored = augmentation.random_matrix(geometry.photograph_box((40, 60)), 48, rng, always)
    np.testing.assert_allclose(mirrored[0], [0, 0, 47] - fitted[0])
    np.testing.assert_allclose(mirrored[1], fitted[1])
    assert geometry.is_mirrored(mirrored)
    assert not geometry.is_mirrored(fitted)


def test_random_views_have_the_stated_distribution():
    rng = np.random.default_rng(0)
    scales, angles, mirrored = [], [], []
    for _ in range(6000):
        matrix = augmentation.random_matrix(
            geometry.photograph_box((64, 64)), 64, rng, augmentation.Augmentation()
        )
        np.testing.assert_allclose(apply(matrix, 31.5, 31.5), (31.5, 31.5), atol=1e-9)
        linear = matrix[:, :2]
        mirrored.append(geometry.is_mirrored(matrix))
        if mirrored[-1]:
            linear = np.diag([-1, 1]) @ linear
        scales.append(np.sqrt(np.linalg.det(linear)))
        angles.append(np.degrees(np.arctan2(linear[1, 0], linear[0, 0])))
    scales, angles = np.array(scales), np.array(angles)
    # Three standard errors of a proportion among 6000 are below 0.02.
    assert scales.min() == pytest.approx(0.75)
    assert scales.max() == pytest.approx(1.25)
    assert np.mean((scales > 0.751) & (scales < 1.249)) == pytest.approx(0.683, abs=0.02)
    assert np.mean(np.abs(angles) > 1e-6) == pytest.approx(0.6, abs=0.02)
    assert np.mean(np.abs(angles) > 59.999) == pytest.approx(0.6 * 0.0455, abs=0.01)
    assert np.abs(angles).max() == pytest.approx(60)
    assert np.mean((np.abs(angles) > 1e-6) & (np.abs(angles) < 30)) == pytest.approx(
        0.6 * 0.683, abs=0.02
    )
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.02)


def test_change_source_keeps_every_point_of_the_picture():
    rng = np.random.default_rng(1)
    matrix = augmentation.random_matrix(
        geometry.photograph_box((1024, 768)), 473, rng, augmentation.Augmentation()
    )
    half = geometry.change_source(matrix, (1024, 768), (512, 384))
    for x, y in ((0, 0), (17, 300), (383, 511)):
        # A label pixel covers two by two image pixels.
        np.testing.assert_allclose(apply(half, x, y), apply(matrix, 2 * x + 0.5, 2 * y + 0.5))


@pytest.mark.parametrize("hw", [(40, 56), (400, 300)])
def test_warp_image_is_bilinear_and_black_outside(hw):
    rng = np.random.default_rng(2)
    image = rng.integers(1, 256, (*hw, 3), dtype=np.uint8)
    for _ in range(4):
        matrix = augmentation.random_matrix(
            geometry.photograph_box(image.shape[:2]), 48, rng, augmentation.Augmentation()
        )
        y, x = np.mgrid[:48, :48]
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
        source_x, source_y = (inverse @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)]))[:2]
        padded = np.pad(image.astype(float), ((2, 2), (2, 2), (0, 0)))
        expected = np.stack(
            [
                ndimage.map_coordinates(padded[..., c], [source_y + 2, source_x + 2], order=1)
                for c in range(3)
            ],
            axis=-1,
        ).reshape(48, 48, 3)
        warped = warp.warp_image(image, matrix, 48)
        assert np.abs(warped - expected).max() < 0.51
    fitted = warp.warp_image(image, fit(hw, 48), 48)
    assert (fitted[0, 0] == 0).all()
    assert fitted[24, 24].any()


def test_warp_label_takes_the_nearest_pixel_and_ignores_outside():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 19, (40, 50), dtype=np.uint8)
    for _ in range(4):
        matrix = augmentation.random_matrix(
            geometry.photograph_box(label.shape), 64, rng, augmentation.Augmentation()
        )
        y, x = np.mgrid[:64, :64]
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
        source = np.rint((inverse @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)]))[:2])
        column, row = source.astype(int)
        inside = (column >= 0) & (column < 50) & (row >= 0) & (row < 40)
        expected = np.full(64 * 64, 255)
        expected[inside] = label[row[inside], column[inside]]
        warped = warp.warp_label(label, matrix, 64, 255)
        np.testing.assert_array_equal(warped, expected.reshape(64, 64))


def test_label_values_are_never_mixed():
    label = np.zeros((64, 64), np.uint8)
    label[20:44, 20:44] = 10
    rng = np.random.default_rng(4)
    for _ in range(20):
        matrix = augmentation.random_matrix(
            geometry.photograph_box(label.shape), 50, rng, augmentation.Augmentation()
        )
        assert set(np.unique(warp.warp_label(label, matrix, 50, 255))) <= {0, 10, 255}


def test_image_and_half_size_label_stay_together():
    _, label = synthetic.draw_face(3, 64)
    fine = label.repeat(2, axis=0).repeat(2, axis=1)
    image = np.repeat((fine == 1)[..., None] * np.uint8(255), 3, axis=2)
    rng = np.random.default_rng(5)
    for _ in range(5):
        view = augmentation.augment(
            {"image": image, "label": label},
            rng,
            size=96,
            augmentation=augmentation.Augmentation(),
            label_set=label_sets.HELEN,
        )
        certain = (view["image"][..., 0] == 0) | (view["image"][..., 0] == 255)
        inside = view["label"] != 255
        wrong = ((view["image"][..., 0] == 255) != (view["label"] == 1)) & certain & inside
        assert wrong.sum() <= 2
        assert view["image"].shape == (96, 96, 3)
        assert view["label"].shape == (96, 96)
        assert (view["image"][~inside] <= 127).all()


def test_mirrored_face_keeps_left_and_right():
    helen = label_sets.HELEN
    mirror = augmentation.Augmentation(scale_std=0, rotation_prob=0, mirror_prob=1)
    for index in range(8):
        image, label = synthetic.draw_face(index, 96)
        view = augmentation.augment(
            {"image": image, "label": label},
            np.random.default_rng(index),
            size=96,
            augmentation=mirror,
            label_set=helen,
        )
        np.testing.assert_array_equal(view["image"], image[:, ::-1])
        flipped = label[:, ::-1]
        for left, right in (("left_eye", "right_eye"), ("left_brow", "right_brow")):
            left, right = helen.classes.index(left), helen.classes.index(right)
            if {left, right} <= set(np.unique(label)):
                # The eye that was the right one lies image-left now, and is called left.
                np.testing.assert_array_equal(view["label"] == left, flipped == right)
                np.testing.assert_array_equal(view["label"] == right, flipped == left)
                assert centroid(view["label"], left)[0] < centroid(view["label"], right)[0]
        unpaired = ~np.isin(flipped, [2, 3, 4, 5])
        np.testing.assert_array_equal(view["label"][unpaired], flipped[unpaired])


def test_colours_change_and_the_view_does_not():
    image, label = synthetic.draw_face(0, 64)
    example = {"image": image, "label": label, "name": "face"}
    plain, coloured = (
        augmentation.augment(
            example,
            np.random.default_rng(5),
            size=64,
            augmentation=augmentation.Augmentation(brightness=change, saturation=change),
            label_set=label_sets.HELEN,
        )
        for change in (0.0, 0.3)
    )
    np.testing.assert_array_equal(plain["label"], coloured["label"])
    is_shown = plain["label"] != label_sets.HELEN.ignore_label
    assert np.any(plain["image"][is_shown] != coloured["image"][is_shown])
    correlation = np.corrcoef(plain["image"].ravel(), coloured["image"].ravel())[0, 1]
    assert correlation > 0.95


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 11, 19, 130])
def test_unwarp_is_exact_between_pixels(channels):
    slope = np.arange(1, channels + 1)
    matrix = np.array([[0.73, 0.02, 3.13], [-0.05, 0.71, 5.7]])
    y, x = np.mgrid[:64, :64].astype(np.float32)
    logits = (x[..., None] * slope - 2 * y[..., None] + slope).astype(np.float32)
    row, column = np.mgrid[:30, :40]
    input_x = 0.73 * column + 0.02 * row + 3.13
    input_y = -0.05 * column + 0.71 * row + 5.7
    expected = input_x[..., None] * slope - 2 * input_y[..., None] + slope
    unwarped = unwarp.sample(logits, matrix, (30, 40))
    assert unwarped.dtype == np.float32
    np.testing.assert_allclose(unwarped, expected, rtol=2e-6, atol=1e-4)


@pytest.mark.parametrize("hw", [(120, 200), (77, 50), (96, 96)])
def test_prediction_returns_to_its_place(hw):
    _, square = synthetic.draw_face(1, 200)
    label = np.ascontiguousarray(square[: hw[0], : hw[1]])
    matrix = fit(hw, 160)
    warped = warp.warp_label(label, matrix, 160, 255)
    logits = (warped[..., None] == np.arange(11)).astype(np.float32)
    back = unwarp.sample(logits, matrix, hw).argmax(axis=-1)
    # Half a pixel of scale lies between the grids, hence only boundaries may differ.
    interior = ndimage.minimum_filter(label, 3) == ndimage.maximum_filter(label, 3)
    np.testing.assert_array_equal(back[interior], label[interior])


def test_unwarp_continues_the_border():
    logits = np.zeros((4, 4, 1), np.float32)
    logits[:, 3] = 5
    unwarped = unwarp.sample(logits, fit((16, 16), 4), (16, 16))
    np.testing.assert_allclose(unwarped[:, -2:], 5)
    np.testing.assert_allclose(unwarped[:, :2], 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("scale_std", -1), ("rotation_prob", 1.5), ("mirror_prob", float("nan")), ("scale_min", 2)],
)
def test_impossible_ranges_are_named(field, value):
    config = synthetic_config.get_config()
    config.augmentation[field] = type(config.augmentation[field])(value)
    with pytest.raises(UserError, match=rf"config\.augmentation\.{field}"):
        validate(config)
