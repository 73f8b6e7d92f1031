"""Photographs of rare classes come more often."""

import numpy as np
import pytest

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.balance import BalancedSource, repeat_factors

HELEN = label_sets.HELEN


class Source:
    """A hundred label maps of background and skin, four of them with hair (class 10)."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        label = np.zeros((4, 4), np.uint8)
        label[0] = 1
        if index % 25 == 0:
            label[1, 1] = 10
        label[3, 3] = 255
        return {"image": np.zeros((4, 4, 3), np.uint8), "label": label, "name": str(index)}


def test_repeat_factors_are_the_square_roots():
    present = np.zeros((100, 3), bool)
    present[:, 0] = True
    present[:4, 1] = True
    present[:25, 2] = True
    factors = repeat_factors(present, 0.36)
    np.testing.assert_allclose(factors[:4], 3)
    np.testing.assert_allclose(factors[4:25], 1.2)
    np.testing.assert_allclose(factors[25:], 1)


def test_rare_photographs_come_as_often_as_they_are_asked_for():
    source = BalancedSource(Source(), HELEN, 0.36, seed=0)
    names = [source[index]["name"] for index in range(len(source))]
    assert len(source) == 108
    assert {name for name in names if names.count(name) == 3} == {"0", "25", "50", "75"}
    assert len(set(names)) == 100


def test_what_is_beyond_a_whole_number_is_drawn_by_the_seed():
    # sqrt(0.25 / 0.04) = 2.5
    counts = [len(BalancedSource(Source(), HELEN, 0.25, seed=seed)) for seed in range(20)]
    assert min(counts) >= 104
    assert max(counts) <= 108
    assert len(set(counts)) > 1
    assert len(BalancedSource(Source(), HELEN, 0.25, seed=0)) == counts[0]


@pytest.mark.parametrize("threshold", [0.01, 0.04])
def test_nothing_is_rare_above_the_threshold(threshold):
    assert len(BalancedSource(Source(), HELEN, threshold, seed=0)) == 100
