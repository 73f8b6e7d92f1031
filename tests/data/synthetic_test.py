"""Drawn faces: repeatable, varied, with every class in its place."""

import hashlib
import pickle

import numpy as np
import pytest
from dmlcsr_jax.configs import synthetic as synthetic_config

from dmlcsr_jax.config import validate
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
    ("field", "value"),
    [
        ("data.synthetic.train_examples", 0),
        ("data.synthetic.size", 8),
        ("seed", -1),
        ("data.label_noise", 1.2),
    ],
)
def test_impossible_faces_are_refused(field, value):
    config = synthetic_config.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=rf"config\.{field}"):
        validate(config)


@pytest.mark.parametrize(
    ("arguments", "digest"),
    [
        ((0, 96, 0), "1a93232dcb0b8d5fa80a3838dde288db343dc8a4a9063401e55bf7c7b74709b5"),
        ((7, 128, 3), "e667108708dc56faa35ef415154858305a226f18ebfb38946bb3c3d96fb523f6"),
        ((5, 64, 2), "d499170f4eccfb5a3f46201a769bc888dc08bfad1fe4f9f0a415a5271691c316"),
    ],
)
def test_faces_stay_the_same_from_version_to_version(arguments, digest):
    image, label = synthetic.draw_face(*arguments)
    assert hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest() == digest


def test_a_hundred_faces_stay_the_same_from_version_to_version():
    digest = hashlib.sha256()
    for index in range(100):
        for array in synthetic.draw_face(index, 48, 1):
            digest.update(array.tobytes())
    expected = "0bd433909dfecd8bb77b2498e459873df3c1a278cdab4e55347f7217129c0ab5"
    assert digest.hexdigest() == expected
