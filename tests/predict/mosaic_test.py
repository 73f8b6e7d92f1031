"""Many faces in a photograph: found, parsed in crops, pasted back; the truth is what was drawn."""

import dataclasses

import colour_network
import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from colour_network import ColourNetwork
from drawn_mosaic import EYES, LABELS, centroid, draw, roll

from dmlcsr_jax.predict import faces
from dmlcsr_jax.predict.face_parser import FaceParser

TURNS = (0, 30, -60, 120, -90, 0)
PARTS = [name for name in LABELS if name not in ("background", "hair")]


class SidedNetwork(ColourNetwork):
    """Knows eyes and brows by their colour, left from right by the half of the view only."""

    def apply(self, variables, images, *, train):
        logits = super().apply(variables, images, train=train)["parsing"]
        is_left = jnp.arange(logits.shape[2]) < logits.shape[2] // 2
        for side in ("brow", "eye"):
            left, right = LABELS[f"left_{side}"], LABELS[f"right_{side}"]
            best = jnp.maximum(logits[..., left], logits[..., right])
            logits = logits.at[..., left].set(jnp.where(is_left, best, -9))
            logits = logits.at[..., right].set(jnp.where(is_left, -9, best))
        return {"parsing": logits}


@pytest.fixture(scope="module")
def mosaic():
    """Faces numbered by their size, the largest first, as a parser numbers those it finds."""
    drawn = draw(TURNS)
    order = sorted(range(len(TURNS)), key=lambda number: -drawn.faces[number].side)
    number = np.array([0, *(np.argsort(order) + 1)], np.uint8)[drawn.number]
    return dataclasses.replace(drawn, number=number, faces=[drawn.faces[i] for i in order])


@pytest.fixture(scope="module")
def result(mosaic):
    with pytest.MonkeyPatch.context() as patch:
        colour_network.install(patch.setattr, size=160, network=SidedNetwork)
        parser = FaceParser("any", batch_size=4, faces=lambda image: mosaic.faces)
        yield parser(mosaic.coloured)


def test_every_face_is_labelled_once_where_it_is(mosaic, result):
    assert len(result.faces) == len(TURNS)
    assert result.instances.dtype == np.uint8
    # What the views show of the parts; a pixel at a border may be the neighbour's.
    clear = result.instances > 0
    assert clear[mosaic.label > 1].mean() > 0.95
    np.testing.assert_array_equal(np.unique(result.instances), range(len(TURNS) + 1))
    own = result.instances[clear] == mosaic.number[clear]
    assert own.mean() > 0.995
    for number, face in enumerate(result.faces):
        np.testing.assert_array_equal(face.label > 0, result.instances == number + 1)
        assert face.area["face_skin"] == result.mask("face_skin", face=number).sum() > 500


@pytest.mark.parametrize("number", range(len(TURNS)))
def test_parts_come_back_within_a_pixel_with_left_and_right_right(mosaic, result, number):
    of_face = mosaic.number == number + 1
    compared = 0
    for part in PARTS:
        truth = of_face & (mosaic.label == LABELS[part])
        if truth.sum() < 30:
            continue
        # Where two colours mix, a third one may be seen.
        near = cv2.dilate(truth.astype(np.uint8), np.ones((7, 7))) > 0
        found = result.mask(part, face=number) & near
        distance = np.hypot(*(centroid(found) - centroid(truth)))
        assert distance < 1, (part, distance)
        compared += 1
    assert compared >= 6


def test_the_complete_photograph_would_take_sides_for_the_photographs(mosaic, result):
    del result
    with pytest.MonkeyPatch.context() as patch:
        colour_network.install(patch.setattr, size=160, network=SidedNetwork)
        label = FaceParser("any", faces="whole")(mosaic.coloured).label
    left = np.arange(label.shape[1]) < 160
    assert (left & (mosaic.label == EYES[1])).sum() > 30
    assert not (left & (label == EYES[1])).any()


def test_overlapping_faces_do_not_depend_on_their_order(monkeypatch):
    colour_network.install(monkeypatch.setattr, size=64)
    mosaic = draw((0, 10, 20, 30), tile=80, columns=2)
    parser = FaceParser("any", batch_size=4, margin=1.0)
    found = parser(mosaic.coloured, faces=mosaic.faces)
    order = [2, 0, 3, 1]
    turned = parser(mosaic.coloured, faces=[mosaic.faces[i] for i in order])
    np.testing.assert_array_equal(turned.label, found.label)
    renumbered = np.array([0, *(np.argsort(order) + 1)])[found.instances]
    np.testing.assert_array_equal(turned.instances, renumbered)
    assert set(np.unique(found.instances)) == set(range(5))


@pytest.mark.skipif(faces.default_detector() is None, reason="the extra 'faces' is not installed")
@pytest.mark.parametrize("tile", [48, 160])
def test_the_detector_finds_every_drawn_face_once_however_it_is_turned(tile):
    mosaic = draw((0, 45, -60, 60, -30, 20), tile=tile)
    found = faces.find(faces.default_detector(), mosaic.image)
    assert len(found) == len(mosaic.faces)
    for truth in mosaic.faces:
        middle = np.add(truth.box[:2], truth.box[2:]) / 2
        side = max(np.subtract(truth.box[2:], truth.box[:2]))
        [face] = [
            face
            for face in found
            if (abs(np.add(face.box[:2], face.box[2:]) / 2 - middle) < side / 4).all()
        ]
        assert 0.6 < max(np.subtract(face.box[2:], face.box[:2])) / side < 1.6
        # The eyes of faces of 24 pixels are less sure.
        assert tile < 160 or abs(roll(face) - roll(truth)) < 40
