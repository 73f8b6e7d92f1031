import dataclasses
import math

import cv2
import numpy as np
import pytest

from dmlcsr_jax.data.label_sets import CELEBAMASK_HQ, FACE_SYNTHETICS, HELEN, LAPA, LabelSet
from dmlcsr_jax.predict.quality import is_face, quality, shows_person

GRID = 97
SCALE = 0.25
MATRIX = np.array([[SCALE, 0, 0], [0, SCALE, 0]])
BOX = (100, 90, 290, 310)
HW = (390, 390)
# Class names: hair, skin, eyes, brows, nose, mouth.
NAMES = {
    "celebamask_hq": ("hair", "skin", "l_eye", "r_brow", "nose", "u_lip"),
    "face_synthetics": ("hair", "skin", "left_eye", "right_brow", "nose", "top_lip"),
    "helen": ("hair", "face_skin", "left_eye", "right_brow", "nose", "upper_lip"),
    "lapa": ("hair", "skin", "left_eye", "right_brow", "nose", "upper_lip"),
}
# Columns and rows of the grid: hair, skin, eyes, brows, nose, mouth.
PLACES = (
    (20, 15, 76, 50),
    (28, 28, 68, 74),
    (34, 40, 62, 44),
    (34, 34, 62, 37),
    (45, 46, 51, 56),
    (40, 62, 56, 66),
)
SETS = pytest.mark.parametrize(
    "label_set", [CELEBAMASK_HQ, FACE_SYNTHETICS, HELEN, LAPA], ids=lambda one: one.name
)


def scores(label_set, shown=range(6), sure=0.97):
    """A drawn face's log-probabilities, each part with the probability `sure`."""
    label = np.zeros((GRID, GRID), int)
    for index, (name, place) in enumerate(zip(NAMES[label_set.name], PLACES, strict=True)):
        if index in shown:
            left, top, right, bottom = place
            label[top:bottom, left:right] = label_set.classes.index(name)
    return certain(label, label_set, sure)


def certain(label, label_set, sure):
    rest = (1 - sure) / (label_set.num_classes - 1)
    return np.log(np.where(np.eye(label_set.num_classes)[label] > 0, sure, rest)).astype(np.float32)


@SETS
def test_a_doubtful_find_without_features_is_dropped(label_set):
    skin = scores(label_set, shown=(1,))
    assert not is_face(skin, MATRIX, BOX, 0.7, label_set)
    assert not is_face(scores(label_set, shown=(1, 5)), MATRIX, BOX, 0.7, label_set)
    assert not is_face(skin, MATRIX, BOX, None, label_set)
    assert is_face(skin, MATRIX, BOX, 0.92, label_set)


@SETS
def test_masks_profiles_and_heads_from_behind_are_kept(label_set):
    assert is_face(scores(label_set), MATRIX, BOX, 0.7, label_set)
    assert is_face(scores(label_set, shown=(1, 2, 3)), MATRIX, BOX, 0.7, label_set)
    assert is_face(scores(label_set, shown=(1, 4, 5)), MATRIX, BOX, 0.7, label_set)
    assert is_face(scores(label_set, shown=(0, 1)), MATRIX, BOX, 0.7, label_set)


def test_glasses_are_eyes():
    label = np.zeros((GRID, GRID), int)
    label[40:48, 30:66], label[62:66, 40:56] = 3, 11
    assert is_face(certain(label, CELEBAMASK_HQ, 0.97), MATRIX, BOX, 0.7, CELEBAMASK_HQ)


def test_features_outside_the_box_do_not_count():
    found = scores(CELEBAMASK_HQ, shown=(1, 2, 3, 4, 5))
    assert not is_face(found, MATRIX, (10, 10, 60, 60), 0.7, CELEBAMASK_HQ)


def test_sets_with_too_few_features_are_never_doubted():
    names = ("background", "skin", "nose")
    few = LabelSet("few", names, (), "none", ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    nothing = certain(np.zeros((GRID, GRID), int), few, 0.97)
    assert is_face(nothing, MATRIX, BOX, 0.6, few)
    assert shows_person(nothing, few)
    value, reasons = quality(nothing, MATRIX, BOX, 0.9, 0.0, HW, few)
    assert 0 <= value <= 1
    assert "no eyes found" not in reasons


@SETS
def test_a_person_is_sure_hair_or_a_face(label_set):
    assert shows_person(scores(label_set, shown=(0,)), label_set)
    assert not shows_person(scores(label_set, shown=(0,), sure=0.5), label_set)
    assert shows_person(scores(label_set, shown=(1, 2, 3, 4, 5)), label_set)
    # The same features with the mouth above the eyes.
    assert not shows_person(scores(label_set, shown=(1, 2, 3, 4, 5))[::-1], label_set)
    assert not shows_person(scores(label_set, shown=()), label_set)


@pytest.mark.parametrize("name", ["hat", "cloth", "skin"])
def test_hat_clothes_and_skin_alone_are_no_person(name):
    label = np.full((GRID, GRID), CELEBAMASK_HQ.classes.index(name))
    assert not shows_person(certain(label, CELEBAMASK_HQ, 0.99), CELEBAMASK_HQ)


@SETS
def test_a_clear_face_is_trusted(label_set):
    value, reasons = quality(scores(label_set), MATRIX, BOX, 0.93, 0.0, HW, label_set)
    assert value > 0.85
    assert reasons == ()


@SETS
def test_each_fault_has_its_reason_and_lowers_the_quality(label_set):
    def judge(found, box=BOX, matrix=MATRIX, hw=HW, roll=0.0):
        return quality(found, matrix, box, 0.93, roll, hw, label_set)

    best, _ = judge(scores(label_set))
    for shown, reason in (
        ((0, 1, 3, 4, 5), "no eyes found"),
        ((0, 1, 2, 3, 5), "no nose found"),
        ((0, 1, 2, 3, 4), "no mouth found"),
    ):
        value, reasons = judge(scores(label_set, shown))
        assert value < best
        assert reasons == (reason,)
    value, reasons = judge(scores(label_set, sure=0.6))
    assert value < best - 0.1
    assert reasons == ("unsure",)
    value, reasons = judge(scores(label_set)[::-1])
    assert value < best - 0.1
    assert "turned" in reasons
    assert judge(scores(label_set), roll=math.pi / 2)[1] == ("turned",)
    assert judge(scores(label_set), hw=(280, 390))[1] == ("cut by the picture's edge",)
    small = np.array([[SCALE * 8, 0, 0], [0, SCALE * 8, 0]])
    value, reasons = judge(scores(label_set), np.array(BOX) / 8, small)
    assert value < best
    assert reasons == ("small",)


def test_a_turned_view_of_a_turned_face_is_level():
    turn = cv2.getRotationMatrix2D((195, 200), 90, 1)
    # The view shows the photograph turned by 90 degrees so that the face stands upright.
    matrix = np.vstack([SCALE * turn])
    middle = np.linalg.solve(turn[:, :2], np.array([195, 200]) - turn[:, 2])
    box = (*(middle - 105), *(middle + 105))
    right = np.linalg.solve(turn[:, :2], np.array([1.0, 0]))
    roll = math.atan2(right[1], right[0])
    value, reasons = quality(scores(CELEBAMASK_HQ), matrix, box, 0.93, roll, HW, CELEBAMASK_HQ)
    assert value > 0.85
    assert reasons == ()


def test_own_names_of_classes_are_understood():
    own = dataclasses.replace(
        HELEN,
        name="helen",
        classes=tuple(name.replace("upper_lip", "Upper-Lip") for name in HELEN.classes),
        groups={},
    )
    found = scores(HELEN, shown=(1, 4, 5))
    assert is_face(found, MATRIX, BOX, 0.7, own)
