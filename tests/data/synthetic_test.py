"""Drawn faces: repeatable, varied, with every class in its place."""

import pickle

import numpy as np
import pytest

from dmlcsr_jax.data import label_sets, synthetic
from dmlcsr_jax.errors import UserError

CLASSES = label_sets.HELEN.classes


def test_the_same_index_is_the_same_face_and_another_is_not():
    image, label = synthetic.draw_face(5, 64, seed=2)
    again, label_again = synthetic.draw_face(5, 64, seed=2)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(label, label_again)
    assert image.shape == (64, 64, 3)
    assert label.shape == (64, 64)
    assert image.dtype == label.dtype == np.uint8
    for other in (synthetic.draw_face(6, 64, seed=2), synthetic.draw_face(5, 64, seed=3)):
        assert np.abs(image.astype(int) - other[0]).mean() > 5


def test_every_class_is_in_most_images_and_left_is_the_images_left():
    present = np.zeros(len(CLASSES))
    pixels = np.zeros(len(CLASSES))
    for index in range(60):
        _, label = synthetic.draw_face(index, 96)
        assert label.max() < len(CLASSES)
        counts = np.bincount(label.ravel(), minlength=len(CLASSES))
        present += counts > 0
        pixels += counts
        for part in ("eye", "brow"):
            left, right = (
                np.nonzero(label == CLASSES.index(f"{side}_{part}"))[1]
                for side in ("left", "right")
            )
            if len(left) and len(right):
                assert left.mean() < right.mean()
    assert (present >= 0.75 * 60).all(), dict(zip(CLASSES, present, strict=True))
    shares = pixels / pixels.sum()
    assert shares[CLASSES.index("face_skin")] > 0.1
    assert shares[CLASSES.index("hair")] > 0.1
    assert shares.min() > 0.001


def test_parts_lie_as_in_a_face():
    for index in range(30):
        _, label = synthetic.draw_face(index, 96)
        rows = {
            name: np.nonzero(label == value)[0].mean()
            for value, name in enumerate(CLASSES)
            if (label == value).sum() > 12
        }
        for upper, lower in (("left_eye", "nose"), ("nose", "lower_lip"), ("hair", "lower_lip")):
            if upper in rows and lower in rows:
                assert rows[upper] < rows[lower], index


def test_labels_follow_the_picture():
    across, within = [], []
    for index in range(20):
        image, label = synthetic.draw_face(index, 96)
        step = np.abs(np.diff(image.astype(float), axis=1)).sum(-1)
        boundary = np.diff(label.astype(int), axis=1) != 0
        across.append(step[boundary].mean())
        within.append(step[~boundary].mean())
    assert np.mean(across) > 3 * np.mean(within)


def test_label_noise_changes_labels_alone_and_only_near_boundaries():
    changed = []
    for index in range(20):
        image, label = synthetic.draw_face(index, 96)
        noisy_image, noisy = synthetic.draw_face(index, 96, label_noise=0.2)
        np.testing.assert_array_equal(image, noisy_image)
        again = synthetic.draw_face(index, 96, label_noise=0.2)[1]
        np.testing.assert_array_equal(noisy, again)
        changed.append((label != noisy).mean())
        assert noisy.max() < len(CLASSES)
    assert 0.005 < np.mean(changed) < 0.05
    heavy = np.mean(
        [
            (synthetic.draw_face(i, 96)[1] != synthetic.draw_face(i, 96, label_noise=1.0)[1]).mean()
            for i in range(10)
        ]
    )
    assert heavy > 2 * np.mean(changed)


def test_label_noise_drops_parts():
    kept = dropped = 0
    nose = CLASSES.index("nose")
    for index in range(80):
        if (synthetic.draw_face(index, 64)[1] == nose).any():
            kept += 1
            dropped += not (synthetic.draw_face(index, 64, label_noise=0.8)[1] == nose).any()
    # One in five at 0.8; three standard errors of 80 draws.
    assert dropped / kept == pytest.approx(0.2, abs=0.14)


def test_source_draws_its_faces_and_travels_to_workers():
    source = pickle.loads(pickle.dumps(synthetic.SyntheticSource(4, 48, seed=7)))
    assert len(source) == 4
    example = source[2]
    np.testing.assert_array_equal(example["image"], synthetic.draw_face(2, 48, seed=7)[0])
    np.testing.assert_array_equal(example["label"], synthetic.draw_face(2, 48, seed=7)[1])
    assert len({source[i]["name"] for i in range(4)}) == 4
    with pytest.raises(IndexError):
        source[4]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"num_examples": 0}, "num_examples"),
        ({"size": 8}, "size"),
        ({"seed": -1}, "seed"),
        ({"label_noise": 1.2}, "label_noise"),
    ],
)
def test_impossible_faces_are_refused(arguments, word):
    with pytest.raises(UserError, match=word):
        synthetic.SyntheticSource(**({"num_examples": 2, "size": 48} | arguments))
