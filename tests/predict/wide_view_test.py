"""The wider view of a found face labels what lies beyond its crop, and nothing else."""

import dataclasses

import colour_network
import numpy as np
import pytest
from colour_network import METADATA, interior, picture, truth

from dmlcsr_jax import FaceParser
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.composite import Composite
from dmlcsr_jax.predict.margins import margins

CELLS = np.random.default_rng(0).integers(1, 5, (12, 12))
BOX = (80, 80, 112, 112)  # Two cells of twelve.
IMAGE = picture(CELLS)


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    colour_network.install(monkeypatch.setattr, size=256)


def parse(**options):
    return FaceParser("any", faces=lambda image: [BOX], margin=0.5, **options)(IMAGE)


def shown(margin):
    """Where the square of a margin about the box is."""
    inside = np.zeros(IMAGE.shape[:2], bool)
    reach = round(margin * 32)
    inside[80 - reach : 112 + reach, 80 - reach : 112 + reach] = True
    return inside


def test_parts_beyond_the_crop_are_labelled():
    crop, both = parse(wide_margin=0), parse(wide_margin=1.5)
    np.testing.assert_array_equal(crop.label != 0, shown(0.5))
    np.testing.assert_array_equal(both.label != 0, shown(1.5))
    np.testing.assert_array_equal(both.label[shown(0.5)], crop.label[shown(0.5)])
    clear = interior(CELLS) & shown(1.5)
    np.testing.assert_array_equal(both.label[clear], truth(CELLS)[clear])
    np.testing.assert_array_equal(both.instances, shown(1.5))
    np.testing.assert_array_equal(both.faces[0].label, both.label)


def test_probabilities_reach_as_far():
    result = parse(wide_margin=1.5)
    probability = result.probabilities(METADATA.label_set.classes[2])
    clear = interior(CELLS) & shown(1.5)
    is_part = truth(CELLS) == 2
    assert probability[clear & is_part].min() > probability[clear & ~is_part].max() > 0
    assert not probability[~shown(1.5)].any()


def test_boxes_that_are_given_are_the_crops_alone():
    parser = FaceParser("any", margin=0.5, wide_margin=1.5)
    np.testing.assert_array_equal(parser(IMAGE, faces=[BOX]).label != 0, shown(0.5))
    np.testing.assert_array_equal(parser.parse(IMAGE, [BOX]) != 0, shown(0.5))


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (3, 1, 4, 2)])
def test_a_close_view_decides_even_where_it_sees_background(order):
    """Two faces in a row of 8 pixels: close views of pixels 0-2 and 5-7, wide ones of 0-5, 2-7."""
    spans = {1: (0, 3), 2: (5, 8), 3: (0, 6), 4: (2, 8)}
    says = {1: 0, 2: 1, 3: 2, 4: 1}
    composite = Composite((1, 8), 4, num_close=2)
    for view in order:
        start, stop = spans[view]
        scores = np.zeros((stop - start, stop - start, 3), np.float32)
        scores[..., says[view]] = 3 if view != 4 else 2
        matrix = np.array([[1.0, 0, -start], [0, 1, 0]])
        composite.add(view, scores, matrix, True)
    # Between the close views the wide one whose middle is nearer, as they are about as sure.
    assert composite.label.tolist() == [[0, 0, 0, 2, 1, 1, 1, 1]]
    assert composite.owner.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2]]


@pytest.mark.parametrize(
    ("crop_margin", "given", "expected"),
    [
        (None, (None, None), (0.4, 0.8)),
        (0.3, (None, None), (0.3, 0.0)),
        (0.3, (None, 1.0), (0.3, 1.0)),
        (None, (1.0, None), (1.0, 0.0)),
        (None, (0.4, 0), (0.4, 0.0)),
    ],
)
def test_default_margins(crop_margin, given, expected):
    metadata = dataclasses.replace(METADATA, crop_margin=crop_margin)
    assert margins(metadata, *given) == expected


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_impossible_margins_are_refused(wrong):
    with pytest.raises(UserError, match=f"the margin is {wrong}; it must be 0 or more"):
        margins(METADATA, None, wrong)
