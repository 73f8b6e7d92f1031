"""A network that labels complete photographs by itself is asked for nothing else."""

import numpy as np
import pytest
from colour_network import COLOURS, METADATA, picture, truth

from dmlcsr_jax import FaceParser
from dmlcsr_jax.predict import face_parser

CELLS = [[0, 1, 2], [2, 1, 0]]


class Network:
    """Labels by the nearest colour; says so where it is asked for scores instead."""

    metadata = METADATA
    are_logits = True

    def __init__(self):
        self.scored = 0

    def label(self, image):
        distance = ((image[..., None, :].astype(int) - COLOURS.astype(int)) ** 2).sum(-1)
        return distance.argmin(-1).astype(np.uint8)

    def pipeline(self, batch_size):
        return self

    def start(self, owners, images):
        self.scored += len(images)
        return [(owners, np.stack([-self.distances(image) for image in images]))]

    def distances(self, image):
        return ((image[..., None, :].astype(float) - COLOURS) ** 2).sum(-1).astype(np.float32)

    def rest(self):
        return ()

    def label_of(self, scores, matrix, hw):
        return None

    def on_host(self, scores):
        return scores


@pytest.fixture
def network(monkeypatch):
    network = Network()
    monkeypatch.setattr(face_parser, "open_network", lambda *_, **__: network)
    return network


def test_complete_photographs_are_labelled_directly_and_in_order(network):
    parser = FaceParser("any", faces="whole", batch_size=2)
    cells = [CELLS, CELLS[::-1], [[1]], [[2, 0]], CELLS]
    results = parser([picture(each) for each in cells])
    for result, each in zip(results, cells, strict=True):
        np.testing.assert_array_equal(result.label, truth(each))
        assert not result.instances.any()
    np.testing.assert_array_equal(parser.parse(picture(CELLS)), truth(CELLS))
    assert network.scored == 0


def test_a_face_that_fills_the_photograph_keeps_its_number(network):
    image = picture(CELLS)
    height, width = image.shape[:2]
    parser = FaceParser("any", faces=lambda image: [(0, 0, width, height)])
    result = parser(image)
    assert network.scored == 0
    np.testing.assert_array_equal(result.label, truth(CELLS))
    np.testing.assert_array_equal(result.instances, truth(CELLS) != 0)
    assert result.faces[0].box == (0, 0, width, height)


def test_crops_and_probabilities_need_scores(network):
    parser = FaceParser("any", faces="whole")
    result = parser(picture(CELLS))
    assert network.scored == 0
    result.probabilities(METADATA.label_set.classes[1])
    assert network.scored == 1
    parser.parse(picture(CELLS), [(2, 2, 20, 20), (10, 4, 30, 25)])
    assert network.scored == 3


def test_a_photograph_that_may_not_wait_is_labelled_before_it_is_let_go(network):
    parser = FaceParser("any", batch_size=2)
    load = lambda cells: face_parser.Photograph(picture(cells), is_kept=False)  # noqa: E731
    finish = lambda _, photograph, label: (photograph.image.any(), label)  # noqa: E731
    for cells, (has_pixels, label) in parser.stream([CELLS, [[1, 2]]], load, finish):
        assert not has_pixels
        np.testing.assert_array_equal(label, truth(cells))
