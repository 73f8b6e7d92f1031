import json
import math

import numpy as np
import pytest
import scipy.ndimage
import sklearn.metrics

from dmlcsr_jax.data.label_sets import LABEL_SETS
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation import metrics

IGNORE = 255
HELEN = LABEL_SETS["helen"]


def _pixels(seed, num_classes=HELEN.num_classes, size=4000, absent=()):
    """Truth, and a prediction that is right two times in three."""
    rng = np.random.default_rng(seed)
    classes = [k for k in range(num_classes) if k not in absent]
    truth = rng.choice(classes, size=size)
    prediction = np.where(rng.random(size) < 2 / 3, truth, rng.choice(classes, size=size))
    return truth.astype(np.uint8), prediction.astype(np.int32)


def _confusion(truth, prediction):
    return sklearn.metrics.confusion_matrix(truth, prediction, labels=range(HELEN.num_classes))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_pixels_near_a_boundary_are_those_close_to_another_class(width):
    rng = np.random.default_rng(width)
    label = np.kron(rng.integers(0, 11, (7, 5)), np.ones((9, 8))).astype(np.uint8)
    label[rng.random(label.shape) < 0.05] = IGNORE
    near = metrics.near_boundary(label, width)
    expected = np.zeros_like(near)
    for value in range(11):
        others = (label != value) & (label != IGNORE)
        distance = scipy.ndimage.distance_transform_cdt(~others, "chessboard")
        expected |= (label == value) & (distance <= width)
    np.testing.assert_array_equal(near, expected)
    assert 0.1 < near.mean() < 0.95


def test_without_a_boundary_no_pixel_is_near_one():
    label = np.full((8, 8), 3, np.uint8)
    label[2:4] = IGNORE
    assert not metrics.near_boundary(label).any()
    assert math.isnan(metrics.summarize(np.zeros((11, 11), np.int64), HELEN)["mean_f1"])


def test_a_pixel_is_its_class_or_near_a_boundary_or_ignored():
    label = np.array([[0, 0, 0, 0, 3, 3, IGNORE]], np.uint8)
    kinds = metrics.kinds_of_pixels(label, 4)
    np.testing.assert_array_equal(kinds, [[0, 0, 4, 4, 7, 7, -1]])
    with pytest.raises(UserError, match=r"label contains the value 4.*0 to 3 or the ignore label"):
        metrics.kinds_of_pixels(np.uint8([[0, 4]]), 4)


def test_scores_are_scikit_learns():
    truth, prediction = _pixels(3)
    summary = metrics.summarize(_confusion(truth, prediction), HELEN)
    labels = list(range(HELEN.num_classes))
    expected = {
        "f1": sklearn.metrics.f1_score(truth, prediction, labels=labels, average=None),
        "iou": sklearn.metrics.jaccard_score(truth, prediction, labels=labels, average=None),
        "precision": sklearn.metrics.precision_score(
            truth, prediction, labels=labels, average=None
        ),
        "recall": sklearn.metrics.recall_score(truth, prediction, labels=labels, average=None),
        "truth_pixels": np.bincount(truth),
        "predicted_pixels": np.bincount(prediction),
    }
    assert list(summary["classes"]) == list(HELEN.classes)
    for score, values in expected.items():
        got = [scores[score] for scores in summary["classes"].values()]
        np.testing.assert_allclose(got, values, rtol=1e-12)
    assert summary["mean_f1"] == pytest.approx(
        sklearn.metrics.f1_score(truth, prediction, labels=labels[1:], average="macro"), rel=1e-12
    )
    assert summary["miou"] == pytest.approx(
        sklearn.metrics.jaccard_score(truth, prediction, average="macro"), rel=1e-12
    )
    assert summary["pixel_accuracy"] == pytest.approx(
        sklearn.metrics.accuracy_score(truth, prediction), rel=1e-12
    )
    assert summary["num_pixels"] == truth.size


def test_merged_groups_are_binary_scores_of_the_classes_unions():
    truth, prediction = _pixels(4)
    summary = metrics.summarize(_confusion(truth, prediction), HELEN)
    parts = {
        "eyes": {"left_eye", "right_eye"},
        "brows": {"left_brow", "right_brow"},
        "mouth": {"upper_lip", "inner_mouth", "lower_lip"},
    }
    parts["overall"] = set().union(*parts.values(), {"nose"})
    assert set(summary["groups"]) == set(parts)
    for group, members in parts.items():
        labels = [HELEN.classes.index(name) for name in members]
        in_truth, in_prediction = np.isin(truth, labels), np.isin(prediction, labels)
        scores = summary["groups"][group]
        assert scores["f1"] == pytest.approx(
            sklearn.metrics.f1_score(in_truth, in_prediction), rel=1e-12
        )
        assert scores["iou"] == pytest.approx(
            sklearn.metrics.jaccard_score(in_truth, in_prediction), rel=1e-12
        )
        assert scores["truth_pixels"] == in_truth.sum()


def test_confusion_within_a_group_is_no_error_of_the_group():
    left, right = HELEN.classes.index("left_eye"), HELEN.classes.index("right_eye")
    truth, prediction = np.full(9, left), np.full(9, right)
    summary = metrics.summarize(_confusion(truth, prediction), HELEN)
    assert summary["classes"]["left_eye"]["f1"] == 0
    assert summary["groups"]["eyes"]["f1"] == 1


def test_a_class_in_neither_truth_nor_prediction_is_left_out_of_the_means():
    nose = HELEN.classes.index("nose")
    truth, prediction = _pixels(5, absent=[nose])
    summary = metrics.summarize(_confusion(truth, prediction), HELEN)
    assert math.isnan(summary["classes"]["nose"]["f1"])
    assert math.isnan(summary["classes"]["nose"]["iou"])
    present = [k for k in range(HELEN.num_classes) if k != nose]
    assert summary["mean_f1"] == pytest.approx(
        sklearn.metrics.f1_score(truth, prediction, labels=present[1:], average="macro"), rel=1e-12
    )
    assert summary["miou"] == pytest.approx(
        sklearn.metrics.jaccard_score(truth, prediction, labels=present, average="macro"),
        rel=1e-12,
    )


def test_a_class_that_is_only_predicted_scores_0_and_counts():
    nose = HELEN.classes.index("nose")
    matrix = np.zeros((HELEN.num_classes,) * 2, np.int64)
    matrix[0, 0] = matrix[1, 1] = 10
    matrix[0, nose] = 5
    summary = metrics.summarize(matrix, HELEN)
    assert summary["classes"]["nose"]["f1"] == 0
    assert math.isnan(summary["classes"]["nose"]["recall"])
    assert summary["classes"]["nose"]["precision"] == 0
    assert summary["mean_f1"] == pytest.approx((1 + 0) / 2)


def test_empty_summary_is_nan_and_becomes_json():
    summary = metrics.summarize(np.zeros((HELEN.num_classes,) * 2, np.int64), HELEN)
    assert math.isnan(summary["mean_f1"])
    assert math.isnan(summary["pixel_accuracy"])
    text = json.dumps(metrics.json_safe(summary), allow_nan=False)
    read = json.loads(text)
    assert read["mean_f1"] is None
    assert read["classes"]["nose"]["f1"] is None
    assert read["groups"]["eyes"]["iou"] is None
    assert read["num_pixels"] == 0


def test_json_safe_keeps_defined_numbers():
    truth, prediction = _pixels(6)
    summary = metrics.summarize(_confusion(truth, prediction), HELEN)
    assert json.loads(json.dumps(metrics.json_safe(summary), allow_nan=False)) == summary


def test_matrix_of_another_label_set_is_refused():
    with pytest.raises(UserError, match=r"helen has 11 classes"):
        metrics.summarize(np.zeros((19, 19), np.int64), HELEN)
