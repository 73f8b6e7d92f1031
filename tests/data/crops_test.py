import cv2
import numpy as np
import pytest
from dmlcsr_jax.configs import synthetic as synthetic_config

from dmlcsr_jax.config import validate
from dmlcsr_jax.data.augmentation import Augmentation, augment, random_matrix
from dmlcsr_jax.data.batches import eval_batches
from dmlcsr_jax.data.geometry import box_matrix, photograph_box, shown_box
from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.data.synthetic import draw_face
from dmlcsr_jax.data.unwarp import sample
from dmlcsr_jax.data.warp import warp_image, warp_label
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.label_tiles import label_from_scores


def fit_alone(hw, size):
    """The photograph's matrix, by a formula of its own."""
    scale = size / max(hw)
    offsets = (size - 1) / 2 - scale * (np.array([hw[1], hw[0]]) - 1) / 2
    return np.array([[scale, 0, offsets[0]], [0, scale, offsets[1]]])


@pytest.mark.parametrize(("height", "width"), [(100, 100), (80, 131), (217, 90)])
def test_the_whole_photograph_as_a_box_is_the_whole_photograph(height, width):
    box = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
    np.testing.assert_array_equal(photograph_box((height, width)), box)
    expected = fit_alone((height, width), 64)
    np.testing.assert_allclose(box_matrix(box, 64), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mirror_prob", [0.0, 1.0])
def test_a_random_view_of_a_crop_is_the_crop_and_then_a_random_view_of_the_input(mirror_prob):
    box = np.array([-7.25, 30.5, 60.0, 55.75])
    augmentation = Augmentation(mirror_prob=mirror_prob)
    for seed in range(50):
        found = random_matrix(box, 473, np.random.default_rng(seed), augmentation, margin=0.4)
        input_box = photograph_box((473, 473))
        turned = random_matrix(input_box, 473, np.random.default_rng(seed), augmentation)
        crop = np.vstack([box_matrix(box, 473, margin=0.4), [0, 0, 1]])
        np.testing.assert_allclose(found, turned @ crop, rtol=0, atol=1e-9)


def test_an_integer_crop_is_a_slice():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    # Pixels 10..41 and 20..51: edges lie half a pixel outside.
    matrix = box_matrix(np.array([9.5, 19.5, 41.5, 51.5]), 32)
    np.testing.assert_array_equal(warp_image(image, matrix, 32), image[20:52, 10:42])


def test_margin_is_a_share_of_the_longer_side_on_each_side():
    matrix = box_matrix(np.array([10.0, 20.0, 30.0, 60.0]), 100, margin=0.5)
    # The longer side is 40; half of it is added on each side: 80 pixels fill 100.
    corners = np.array([[20 - 40, 40 - 40, 1], [20 + 40, 40 + 40, 1]])
    np.testing.assert_allclose(corners @ matrix.T, [[-0.5, -0.5], [99.5, 99.5]])


def test_prediction_in_a_crop_is_pasted_back_at_the_original_place():
    truth = np.zeros((120, 160), np.uint8)
    cv2.ellipse(truth, (70, 50), (17, 23), 20, 0, 360, 1, -1)
    rows, columns = np.where(truth)
    edges = (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
    box = np.array(edges)
    matrix = box_matrix(box, 96, margin=0.3)
    seen = warp_image(np.repeat(truth[..., None] * 255, 3, 2), matrix, 96)[..., :1] / 255
    logits = np.concatenate([0.5 - seen, seen - 0.5], axis=2).astype(np.float32)
    back = sample(logits, matrix, truth.shape).argmax(2)
    assert np.mean(back != truth) < 0.001
    assert ((back & truth).sum() / (back | truth).sum()) > 0.99


def test_an_empty_box_is_refused():
    with pytest.raises(UserError, match="empty"):
        box_matrix(np.array([5, 5, 5, 5]), 32, margin=0.1)


@pytest.mark.parametrize("margin", [-0.1, np.nan, -1.0])
def test_impossible_margins_are_refused_by_the_config(margin):
    config = synthetic_config.get_config()
    config.data.crop_margin = margin
    with pytest.raises(UserError, match="margin is"):
        validate(config)


class _Boxed:
    """A source of one drawn face with a box."""

    def __init__(self, box):
        self._box = np.array(box)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        image, label = draw_face(index, 96)
        return {"image": image, "label": label, "name": str(index), "box": self._box}


class _Unboxed(_Boxed):
    def __getitem__(self, index):
        return {k: v for k, v in super().__getitem__(index).items() if k != "box"}


def test_a_crop_shows_the_box_and_its_margin():
    box = [20.0, 30.0, 60.0, 55.0]
    example = _Boxed(box)[0]
    np.testing.assert_array_equal(shown_box(example, 0.25), box)
    np.testing.assert_array_equal(shown_box(example, None), photograph_box((96, 96)))
    # The longer side is 40, a quarter of it goes on each side.
    grown = box_matrix(np.array([10.0, 20.0, 70.0, 65.0]), 64)
    np.testing.assert_allclose(box_matrix(np.array(box), 64, margin=0.25), grown, atol=1e-9)


def test_augmented_crop_without_randomness_is_the_crop():
    example = _Boxed([20.0, 30.0, 60.0, 55.0])[0]
    still = Augmentation(scale_std=0, rotation_prob=0, mirror_prob=0)
    rng = np.random.default_rng(0)
    view = augment(example, rng, size=48, augmentation=still, label_set=HELEN, crop_margin=0.25)
    matrix = box_matrix(example["box"], 48, margin=0.25)
    np.testing.assert_array_equal(view["image"], warp_image(example["image"], matrix, 48))


def test_augmentation_turns_about_the_crops_centre():
    example = _Boxed([20.0, 30.0, 60.0, 55.0])[0]
    example["image"] = np.zeros((96, 96, 3), np.uint8)
    # The box's centre is at (40, 42.5): two pixels above and below it are white.
    example["image"][42:44, 39:42] = 255
    turned = Augmentation(scale_std=0.3, rotation_prob=1.0, rotation_std=90.0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        view = augment(
            example, rng, size=61, augmentation=turned, label_set=HELEN, crop_margin=0.25
        )["image"]
        assert view[30, 30].min() > 200
        assert view.sum() < 0.1 * view.size * 255


def test_boxes_are_shifted_as_a_detectors_would_be():
    example = _Boxed([20.0, 30.0, 60.0, 55.0])[0]
    example["image"] = np.zeros((96, 96, 3), np.uint8)
    example["image"][40:45, 38:43] = 255
    still = dict(scale_std=0, rotation_prob=0, mirror_prob=0)
    arguments = dict(size=96, label_set=HELEN, crop_margin=0.7)

    def places(shift_std):
        for seed in range(300):
            rng = np.random.default_rng(seed)
            augmentation = Augmentation(**still, shift_std=shift_std)
            view = augment(example, rng, augmentation=augmentation, **arguments)["image"]
            y, x = np.nonzero(view[..., 0])
            yield x.mean(), y.mean()

    # The longer side, 40, and its margins are 96: a pixel of the photograph is one of the input.
    found = np.array(list(places(0.1)))
    np.testing.assert_allclose(found.mean(axis=0), [47.5, 47.0], atol=1)
    np.testing.assert_allclose(found.std(axis=0), 0.1 * 40, rtol=0.15)
    assert np.ptp(list(places(0.0)), axis=0).max() == 0


def test_evaluation_pastes_the_crop_back_and_leaves_background_around():
    source = _Boxed([20.0, 20.0, 70.0, 75.0])
    (batch,) = eval_batches(source, label_set=HELEN, image_size=220, batch_size=1, crop_margin=0.1)
    label, matrix = batch["label"][0], batch["matrix"][0]
    seen = warp_label(label, matrix, 220, 255)
    scores = np.float32(seen[..., None] == np.arange(HELEN.num_classes))
    back = label_from_scores(scores, matrix, label.shape, 220)
    # The longer side is 55: 5.5 pixels more; the square about (45, 47.5) has 66 pixels a side.
    shown = np.zeros((96, 96), bool)
    shown[15:81, 12:79] = True
    assert (label[~shown] > 0).any()
    assert (back[~shown] == 0).all()
    assert np.mean(back[shown] == label[shown]) > 0.999


def test_whole_images_are_shown_whole():
    scores = np.float32(np.random.default_rng(0).normal(size=(32, 32, 3)))
    scores[..., 0] = -9
    for hw in ((32, 32), (17, 40), (300, 211)):
        matrix = box_matrix(photograph_box(hw), 32)
        assert (label_from_scores(scores, matrix, hw, 32) > 0).all()


def test_a_set_without_boxes_cannot_be_cropped():
    source = _Unboxed([0, 0, 1, 1])
    with pytest.raises(UserError, match="0 has no face box"):
        next(eval_batches(source, label_set=HELEN, image_size=32, batch_size=1, crop_margin=0.5))
