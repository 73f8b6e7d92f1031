import cv2
import numpy as np
import pytest

from dmlcsr_jax.data.crops import crop_matrix
from dmlcsr_jax.data.transforms import fit_matrix, unwarp_logits, warp_image
from dmlcsr_jax.errors import UserError


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
