"""What the page shows of a result, against pixels counted by hand."""

import dataclasses

import numpy as np
import pytest

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.demo import pictures
from dmlcsr_jax.predict.faces import Face
from dmlcsr_jax.predict.result import Result

HELEN = label_sets.get("helen")
SKIN, HAIR = HELEN.classes.index("face_skin"), HELEN.classes.index("hair")


@pytest.fixture
def result():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    label = np.zeros((4, 5), np.uint8)
    label[1], label[2, :2] = SKIN, HAIR
    return Result(image, label, np.ones((4, 5), np.uint8), [], HELEN)


def test_only_chosen_parts_are_tinted(result):
    tinted = pictures.tinted(result, ["hair"], alpha=1.0)
    is_hair = result.label == HAIR
    np.testing.assert_array_equal(tinted[~is_hair], result.image[~is_hair])
    assert (tinted[is_hair] == HELEN.palette[HAIR]).all()


def test_a_cut_out_holds_nothing_of_what_was_cut_away(result):
    cut = pictures.cut_out(result, ["face_skin", "hair"])
    is_part = result.label != 0
    np.testing.assert_array_equal(cut[is_part, :3], result.image[is_part])
    assert (cut[is_part, 3] == 255).all()
    assert not cut[~is_part].any()
    assert not pictures.cut_out(result, []).any()


def test_areas_are_those_of_the_parts_that_are_there(result):
    assert pictures.areas(result) == [("face_skin", 5, 25.0), ("hair", 2, 10.0)]


def test_the_background_cannot_be_chosen():
    assert pictures.parts_of(HELEN) == [(name, name) for name in HELEN.classes[1:]]


def test_the_legend_has_every_part_in_its_colour_and_in_plain_words():
    celeba = label_sets.get("celebamask_hq")
    legend = pictures.legend(celeba)
    assert legend.count("background:#") == celeba.num_classes - 1
    earring = bytes(celeba.palette[celeba.classes.index("ear_r")]).hex()
    assert f'background:#{earring}"></span>ear_r (earring)</span>' in legend
    strange = dataclasses.replace(celeba, classes=(*celeba.classes[:-1], "<script>"))
    assert "&lt;script&gt;" in pictures.legend(strange)
    assert ("ear_r (earring)", "ear_r") in pictures.parts_of(celeba)


def test_the_faces_and_their_doubts_are_told():
    pixels = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    sure = Face((0, 0, 2, 2), roll=0.0, quality=0.91)
    unsure = Face((2, 0, 4, 2), roll=0.0, quality=0.42, doubts=("small", "unsure"))

    def told(faces, is_searched=True):
        return pictures.told(Result(*pixels, faces, HELEN, is_searched=is_searched))

    assert told([sure]) == "1 face; quality 91%."
    assert told([sure, unsure]) == "2 faces; quality 42% (small, unsure)."
    assert told([]).startswith("No face was found")
    assert told([], is_searched=False) == ""
