"""Degraded views: nothing by default, each kind by itself as it is said, one seed one view."""

import dataclasses

import cv2
import numpy as np
import pytest
from dmlcsr_jax.configs import default

from dmlcsr_jax.data import augmentation, synthetic
from dmlcsr_jax.data.degradation import Degradation, degrade
from dmlcsr_jax.data.label_sets import HELEN

NONE = Degradation(1.0, 0.0, 1.0, 0.0, False, 0.0, 0, 0.0, 0)


@pytest.fixture
def image():
    return synthetic.SyntheticSource(1, 96, seed=0)[0]["image"]


def views(image, count=20, **kinds):
    degradation = dataclasses.replace(NONE, **kinds)
    return [degrade(image, np.random.default_rng(seed), degradation) for seed in range(count)]


def detail(image):
    return cv2.Laplacian(image, cv2.CV_64F).std()


def test_views_are_as_before_by_default(image):
    assert degrade(image, None, Degradation()) is image
    assert degrade(image, np.random.default_rng(0), NONE) is image
    config = default.get_config().augmentation
    assert augmentation.Augmentation.from_dict(config.to_dict()) == augmentation.Augmentation()


def test_a_share_of_the_views_is_degraded(image):
    half = dataclasses.replace(Degradation(), prob=0.5)
    rngs = map(np.random.default_rng, range(400))
    changed = sum(degrade(image, rng, half) is not image for rng in rngs)
    assert 150 < changed < 250


def test_one_seed_gives_one_view(image):
    strong = dataclasses.replace(Degradation(), prob=1.0)
    first, again = (
        [degrade(image, np.random.default_rng(seed), strong) for seed in range(10)]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert all(view.shape == image.shape and view.dtype == np.uint8 for view in first)
    assert len({view.tobytes() for view in first}) == 10


def test_gamma_is_one_power_of_the_brightness(image):
    for view in views(image, gamma=2.5):
        inside = (image > 20) & (image < 235) & (view > 20) & (view < 235)
        exponents = np.log(view[inside] / 255) / np.log(image[inside] / 255)
        assert 1 / 2.6 < np.median(exponents) < 2.6
        np.testing.assert_allclose(exponents, np.median(exponents), atol=0.2)


def test_exposure_is_one_factor(image):
    for view in views(image, exposure=1.0):
        inside = (image > 60) & (view < 255)
        factors = view[inside] / image[inside]
        assert 0.49 < np.median(factors) < 2.01
        np.testing.assert_allclose(factors, np.median(factors), atol=0.02)


def test_a_cast_changes_one_channel(image):
    for view in views(image, cast=0.4):
        changed = [bool((view[..., k] != image[..., k]).any()) for k in range(3)]
        assert sum(changed) <= 1
    assert any((view != image).any() for view in views(image, cast=0.4))


def test_grey_is_the_brightness_that_the_eye_sees(image):
    for view in views(image, 3, grey=True):
        np.testing.assert_allclose(
            view, (image @ [0.299, 0.587, 0.114])[..., None] @ [[1, 1, 1]], atol=1
        )


def test_blur_size_and_jpeg_take_detail_and_noise_gives(image):
    for kinds in ({"blur": 4.0}, {"size": 24}):
        assert all(detail(view) < detail(image) for view in views(image, **kinds)), kinds
    flat = np.full_like(image, 128)
    deviations = [view.std() for view in views(flat, noise=20.0)]
    assert 0.5 < min(deviations) < max(deviations) < 21
    assert all((view != image).any() for view in views(image, jpeg=15))


def test_a_reduced_picture_has_at_least_the_size_asked_for():
    stripes = np.tile(np.uint8([[[0], [255]]]), (96, 48, 3))
    for view in views(stripes, size=96):
        np.testing.assert_array_equal(view, stripes)
    assert min(view.std() for view in views(stripes, size=24)) < 20


def test_views_of_training_are_degraded_with_their_labels_kept():
    example = synthetic.SyntheticSource(1, 96, seed=0)[0]
    strong = dataclasses.replace(Degradation(), prob=1.0)
    plain, degraded = (
        augmentation.augment(
            example,
            np.random.default_rng(5),
            size=64,
            augmentation=augmentation.Augmentation(degradation=degradation),
            label_set=HELEN,
        )
        for degradation in (Degradation(), strong)
    )
    np.testing.assert_array_equal(plain["label"], degraded["label"])
    assert (plain["image"] != degraded["image"]).any()
