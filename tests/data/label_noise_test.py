"""Spoiled labels: which photographs, how much, and the same at every reading."""

import pickle

import numpy as np
import pytest
from dmlcsr_jax.configs import synthetic as synthetic_config

from dmlcsr_jax.data import label_noise, sources
from dmlcsr_jax.data.label_noise import NoisyLabelSource, spoil
from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.data.subset import draw_subset
from dmlcsr_jax.errors import UserError


@pytest.fixture(scope="module")
def faces():
    return sources.open_synthetic("train", HELEN, num_examples=40, size=96)


def labels_of(source):
    return np.stack([source[index]["label"] for index in range(len(source))])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_a_share_of_the_photographs_is_spoiled(faces, share):
    noisy = NoisyLabelSource(faces, HELEN, share, seed=3)
    changed = (labels_of(noisy) != labels_of(faces)).any((1, 2))
    assert changed.sum() == round(40 * share)


def test_images_stay_and_labels_are_the_same_at_every_reading(faces):
    noisy = NoisyLabelSource(faces, HELEN, 0.5, seed=3)
    again = pickle.loads(pickle.dumps(noisy))
    for index in range(10):
        np.testing.assert_array_equal(noisy[index]["image"], faces[index]["image"])
        np.testing.assert_array_equal(noisy[index]["label"], again[index]["label"])
        np.testing.assert_array_equal(noisy.label(index), again[index]["label"])
    other = NoisyLabelSource(faces, HELEN, 0.5, seed=4)
    assert (labels_of(other) != labels_of(noisy)).any()


def test_boundaries_wander_by_a_64th_of_the_longer_side():
    label = np.zeros((256, 320), np.uint8)
    label[128:] = 1
    moved = [
        label_noise._wander(label, np.random.default_rng(seed)).argmax(0) - 128
        for seed in range(60)
    ]
    # Cubic interpolation between a grid's normal draws has, on average, less than their variance.
    assert np.sqrt(np.mean(np.square(moved))) == pytest.approx(0.8 * 320 / 64, rel=0.15)


class _Draws:
    """Draws that exchange left and right, or drop the parts that are named."""

    def __init__(self, *, exchange, dropped=()):
        self._values = [0.2 if exchange else 0.8, np.ones(HELEN.num_classes)]
        self._values[1][list(dropped)] = 0.0

    def standard_normal(self, shape):
        return np.zeros(shape)

    def random(self, size=None):
        return self._values[0 if size is None else 1]


def test_left_and_right_are_exchanged():
    left, right = HELEN.classes.index("left_eye"), HELEN.classes.index("right_eye")
    label = np.full((16, 24), HELEN.classes.index("face_skin"), np.uint8)
    label[4:8, 2:8], label[4:8, 14:20], label[0] = left, right, 255
    expected = label.copy()
    expected[4:8, 2:8], expected[4:8, 14:20] = right, left
    np.testing.assert_array_equal(spoil(label, HELEN, _Draws(exchange=True)), expected)


def test_a_dropped_part_takes_the_class_that_touches_it_most():
    skin, nose, hair = (HELEN.classes.index(name) for name in ("face_skin", "nose", "hair"))
    label = np.full((16, 24), skin, np.uint8)
    label[:4] = hair
    label[4:9, 8:12] = nose  # Hair above, skin at three sides.
    expected = np.where(label == nose, skin, label)
    draws = _Draws(exchange=False, dropped=(nose, HELEN.classes.index("left_eye")))
    np.testing.assert_array_equal(spoil(label, HELEN, draws), expected)


def test_a_part_without_neighbours_stays():
    label = np.full((8, 8), HELEN.classes.index("nose"), np.uint8)
    draws = _Draws(exchange=False, dropped=range(HELEN.num_classes))
    np.testing.assert_array_equal(spoil(label, HELEN, draws), label)


def test_a_config_spoils_training_labels_alone():
    config = synthetic_config.get_config()
    config.data.synthetic.train_examples = config.data.synthetic.eval_examples = 6
    clean = [labels_of(sources.open_source(config, split, HELEN)) for split in ("train", "eval")]
    config.data.label_noise = 1.0
    noisy = [labels_of(sources.open_source(config, split, HELEN)) for split in ("train", "eval")]
    assert (clean[0] != noisy[0]).any((1, 2)).all()
    np.testing.assert_array_equal(clean[1], noisy[1])


def test_a_config_draws_training_photographs(faces):
    config = synthetic_config.get_config()
    config.data.synthetic.train_examples = 40

    def names(count, seed=0):
        config.data.num_train_examples, config.seed = count, seed
        source = sources.open_source(config, "train", HELEN)
        return [source[index]["name"] for index in range(len(source))]

    everything = names(0)
    few, more = names(10), names(25)
    assert len(everything) == 40
    assert len(set(few)) == 10
    assert more[:10] == few
    assert set(more) < set(everything)
    assert set(names(10, seed=1)) != set(few)
    source = draw_subset(faces, 10, seed=0)
    np.testing.assert_array_equal(source.label(3), source[3]["label"])
    with pytest.raises(UserError, match="num_train_examples is 41, but there are 40"):
        names(41)
