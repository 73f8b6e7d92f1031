"""What classes are called in plain words, and their colours."""

import dataclasses

import numpy as np

from dmlcsr_jax.data import label_sets

CELEBA = label_sets.CELEBAMASK_HQ.classes


def test_parts_of_a_face_are_of_no_colour_that_skin_has():
    # Fair to dark, as photographs have it, and brows of black to blond hair.
    skin = [(255, 224, 196), (224, 172, 138), (198, 134, 96), (141, 85, 54), (88, 52, 34)]
    skin += [(30, 25, 20), (110, 80, 55), (190, 160, 120)]
    for part in ("skin", "neck", "l_brow", "r_brow"):
        colour = np.array(label_sets.CELEBAMASK_HQ.palette)[CELEBA.index(part)].astype(int)
        assert np.linalg.norm(skin - colour, axis=1).min() > 70, part
    # The eyes differ in hue or lightness by more than the halves of another pair.
    eyes = [label_sets.CELEBAMASK_HQ.palette[CELEBA.index(name)] for name in ("l_eye", "r_eye")]
    assert np.linalg.norm(np.subtract(*eyes)) > 150


def test_short_names_have_plain_words():
    plain = dict(zip(CELEBA, label_sets.CELEBAMASK_HQ.plain_names, strict=True))
    assert (plain["ear_r"], plain["r_ear"], plain["neck_l"]) == ("earring", "right ear", "necklace")
    assert (plain["l_lip"], plain["l_eye"], plain["eye_g"]) == ("lower lip", "left eye", "glasses")
    assert plain["mouth"] == "inner mouth"
    assert label_sets.IBUG_68.plain_names[-1] == "mouth"
    assert "ear_r (earring)" in label_sets.CELEBAMASK_HQ.titles
    assert label_sets.LAPA.titles == label_sets.LAPA.classes


def test_a_declared_set_from_a_file_has_the_colours_of_its_declaration():
    old = dataclasses.replace(label_sets.HELEN, palette=((1, 2, 3),) * 11)
    assert label_sets.in_declared_colours(old) == label_sets.HELEN
    own = dataclasses.replace(old, name="mine")
    assert label_sets.in_declared_colours(own) is own
