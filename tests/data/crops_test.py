import pickle

import cv2
import numpy as np
import pytest

from dmlcsr_jax.data.batches import eval_batches
from dmlcsr_jax.data.crops import CroppedSource, crop_matrix
from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.data.synthetic import draw_face
from dmlcsr_jax.data.warp import (
    Augmentation,
    augment,
    fit_matrix,
    unwarp_logits,
    view_matrix,
    warp_image,
    warp_label,
)
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation.scores import label_from_scores


@pytest.mark.parametrize(("height", "width"), [(100, 100), (80, 131), (217, 90)])
def test_the_whole_photograph_as_a_box_is_the_whole_photograph(height, width):
    box = np.array([-0.5, -0.5, width - 0.5, height - 0.5])
    np.testing.assert_allclose(crop_matrix(box, 0, 64), fit_matrix((height, width), 64))


def test_an_integer_crop_is_a_slice():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    # Pixels 10..41 and 20..51: edges lie half a pixel outside.
    matrix = crop_matrix(np.array([9.5, 19.5, 41.5, 51.5]), 0, 32)
    np.testing.assert_array_equal(warp_image(image, matrix, 32), image[20:52, 10:42])


def test_margin_is_a_share_of_the_longer_side_on_each_side():
    matrix = crop_matrix(np.array([10.0, 20.0, 30.0, 60.0]), 0.5, 100)
    # The longer side is 40; half of it is added on each side: 80 pixels fill 100.
    corners = np.array([[20 - 40, 40 - 40, 1], [20 + 40, 40 + 40, 1]])
    np.testing.assert_allclose(corners @ matrix.T, [[-0.5, -0.5], [99.5, 99.5]])


def test_prediction_in_a_crop_is_pasted_back_at_the_original_place():
    truth = np.zeros((120, 160), np.uint8)
    cv2.ellipse(truth, (70, 50), (17, 23), 20, 0, 360, 1, -1)
    rows, columns = np.where(truth)
    edges = (columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5)
    box = np.array(edges)
    matrix = crop_matrix(box, 0.3, 96)
    seen = warp_image(np.repeat(truth[..., None] * 255, 3, 2), matrix, 96)[..., :1] / 255
    logits = np.concatenate([0.5 - seen, seen - 0.5], axis=2).astype(np.float32)
    back = unwarp_logits(logits, matrix, truth.shape).argmax(2)
    assert np.mean(back != truth) < 0.001
    assert ((back & truth).sum() / (back | truth).sum()) > 0.99


@pytest.mark.parametrize(
    ("box", "margin", "message"),
    [
        ((0, 0, 10, 10), -0.1, "margin"),
        ((5, 5, 5, 5), 0.1, "empty"),
        ((0, 0, 9, 9), np.nan, "marg"),
    ],
)
def test_impossible_crops(box, margin, message):
    with pytest.raises(UserError, match=message):
        crop_matrix(np.array(box), margin, 32)


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


def test_cropped_source_shows_the_box_and_its_margin():
    box = [20.0, 30.0, 60.0, 55.0]
    source = CroppedSource(_Boxed(box), 0.25)
    example = pickle.loads(pickle.dumps(source))[0]
    # The longer side is 40, a quarter of it goes on each side.
    np.testing.assert_allclose(example["crop"], [10.0, 20.0, 70.0, 65.0])
    np.testing.assert_allclose(view_matrix(example, 64), crop_matrix(np.array(box), 0.25, 64))
    np.testing.assert_array_equal(example["image"], draw_face(0, 96)[0])


def test_augmented_crop_without_randomness_is_the_crop():
    example = CroppedSource(_Boxed([20.0, 30.0, 60.0, 55.0]), 0.25)[0]
    still = Augmentation(scale_std=0, rotation_prob=0, mirror_prob=0)
    rng = np.random.default_rng(0)
    view = augment(example, rng, size=48, augmentation=still, label_set=HELEN)
    matrix = view_matrix(example, 48)
    np.testing.assert_array_equal(view["image"], warp_image(example["image"], matrix, 48))


def test_augmentation_turns_about_the_crops_centre():
    example = CroppedSource(_Boxed([20.0, 30.0, 60.0, 55.0]), 0.25)[0]
    example["image"] = np.zeros((96, 96, 3), np.uint8)
    # The box's centre is at (40, 42.5): two pixels above and below it are white.
    example["image"][42:44, 39:42] = 255
    turned = Augmentation(scale_std=0.3, rotation_prob=1.0, rotation_std=90.0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        view = augment(example, rng, size=61, augmentation=turned, label_set=HELEN)["image"]
        assert view[30, 30].min() > 200
        assert view.sum() < 0.1 * view.size * 255


def test_evaluation_pastes_the_crop_back_and_leaves_background_around():
    source = CroppedSource(_Boxed([20.0, 20.0, 70.0, 75.0]), 0.1)
    (batch,) = eval_batches(source, label_set=HELEN, image_size=220, batch_size=1)
    label, matrix = batch["label"][0], batch["matrix"][0]
    seen = warp_label(label, matrix, 220, 255)
    scores = np.float32(seen[..., None] == np.arange(HELEN.num_classes))
    back = label_from_scores(scores, matrix, label.shape)
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
        assert (label_from_scores(scores, fit_matrix(hw, 32), hw) > 0).all()


def test_a_set_without_boxes_cannot_be_cropped():
    with pytest.raises(UserError, match="0 has no face box"):
        CroppedSource(_Unboxed([0, 0, 1, 1]), 0.5)[0]
    with pytest.raises(UserError, match="margin is -1"):
        CroppedSource(_Boxed([0, 0, 1, 1]), -1)
