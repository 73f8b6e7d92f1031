"""How far from a face the parts of its person may lie."""

import math

import numpy as np
import pytest

from dmlcsr_jax.data.label_sets import CELEBAMASK_HQ, FACE_SYNTHETICS, HELEN, LAPA
from dmlcsr_jax.predict.faces import Face, as_face
from dmlcsr_jax.predict.reach import reaches, within_reach

NAMES = CELEBAMASK_HQ.classes


@pytest.mark.parametrize("degrees", [0, 30, 90, -135, 180])
def test_reach_is_measured_in_faces_along_the_face(degrees):
    roll = math.radians(degrees)
    face = as_face(Face((480, 280, 520, 320), roll=roll))  # 40 pixels about (500, 300).
    right, down = (
        np.array([math.cos(roll), math.sin(roll)]),
        np.array([-math.sin(roll), math.cos(roll)]),
    )

    def may_be(part, across, below):
        point = np.array([499.5, 299.5]) + 40 * (across * right + below * down)
        return within_reach(point[:, None, None], [face], CELEBAMASK_HQ)[0, 0, NAMES.index(part)]

    for part in ("skin", "nose", "l_eye", "u_lip"):
        assert may_be(part, 0.9, 0.9)
        assert not may_be(part, 1.1, 0)
        assert not may_be(part, 0, 1.2)
    # Hats are above, necks and clothes below.
    assert may_be("hat", 0, -2.1)
    assert not may_be("hat", 0, 0.6)
    assert may_be("neck", 0, 1.7)
    assert not may_be("neck", 0, -0.3)
    assert may_be("cloth", 7.5, 11.5)
    assert not may_be("cloth", 0, -1.1)
    assert may_be("hair", 0, 4.5)
    assert not may_be("hair", 0, -2.1)
    assert may_be("background", 30, 30)


def test_parts_of_either_face_may_be():
    faces = [as_face((0, 0, 10, 10)), as_face((90, 0, 100, 10))]
    points = np.array([[[4.5, 50.0, 94.5]], [[4.5, 4.5, 4.5]]])
    skin = within_reach(points, faces, CELEBAMASK_HQ)[0, :, NAMES.index("skin")]
    assert skin.tolist() == [True, False, True]


@pytest.mark.parametrize("label_set", [HELEN, LAPA, CELEBAMASK_HQ, FACE_SYNTHETICS])
def test_every_set_has_a_limit_for_features_and_none_for_the_background(label_set):
    limits = dict(zip(label_set.classes, reaches(label_set), strict=True))
    assert limits["background"] is None
    for name, limit in limits.items():
        if any(word in name for word in ("eye", "brow", "lip", "nose", "mouth")):
            assert limit == (1.0, 1.1, 1.0), name
