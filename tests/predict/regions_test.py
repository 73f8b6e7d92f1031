"""Regions of the skin on faces that are drawn, at any turn, from closed forms."""

import itertools

import numpy as np
import PIL.Image
import pytest
from prediction_files import save

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import masks
from dmlcsr_jax.predict.arguments import parse_arguments
from dmlcsr_jax.predict.faces import Face
from dmlcsr_jax.predict.mask_files import MaskFiles
from dmlcsr_jax.predict.regions import REGIONS, region_of, regions_of
from dmlcsr_jax.predict.result import Result

CELEBAMASK_HQ = label_sets.get("celebamask_hq")
SIZE, UNIT = 240, 60.0
MIDDLE = np.array([120.5, 95.5])

# Middle and half width and height of each drawn part, in eye-to-mouth lengths; the subject's left
# is at positive x. Later ones lie on earlier ones.
PARTS = {
    "skin": (0, 0.25, 1.2, 1.55),
    "hair": (0, -1.1, 1.2, 0.25),
    "nose": (0, 0.35, 0.3, 0.3),
    "l_eye": (0.5, 0, 0.25, 0.1),
    "r_eye": (-0.5, 0, 0.25, 0.1),
    "l_brow": (0.5, -0.3, 0.3, 0.06),
    "r_brow": (-0.5, -0.3, 0.3, 0.06),
    "mouth": (0, 1, 0.4, 0.15),
}


def coordinates(turn, mirrored=False):
    """Returns x and y, in the drawn face's own lengths, of each pixel's middle."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    x, y = (columns - MIDDLE[0]) / UNIT, (rows - MIDDLE[1]) / UNIT
    x = -x if mirrored else x
    cosine, sine = np.cos(turn), np.sin(turn)
    return x * cosine + y * sine, y * cosine - x * sine


def drawn(x, y, without=(), label_set=CELEBAMASK_HQ, names=None):
    label = np.zeros(x.shape, np.uint8)
    for name, (left, top, width, height) in PARTS.items():
        if name not in without:
            inside = (abs(x - left) <= width) & (abs(y - top) <= height)
            label[inside] = label_set.classes.index((names or {}).get(name, name))
    return label


# In the same lengths; a part's outermost 3 % are not trusted, so that widths are 94 % of the drawn.
EXPECTED = {
    "forehead": lambda x, y: y < -0.3,
    "left_cheek": lambda x, y: (x > 0.282) & (y > 0.344) & (y <= 1),
    "right_cheek": lambda x, y: (x < -0.282) & (y > 0.344) & (y <= 1),
    "chin": lambda x, y: (abs(x) <= 0.376) & (y > 1.141),
    "under_left_eye": lambda x, y: (abs(x - 0.5) <= 0.235) & (y > 0.094) & (y <= 0.344),
    "under_right_eye": lambda x, y: (abs(x + 0.5) <= 0.235) & (y > 0.094) & (y <= 0.344),
}


def iou(found, expected):
    return (found & expected).sum() / (found | expected).sum()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 37, 90, 180, 253])
def test_regions_are_where_a_drawn_face_has_them_however_it_lies(degrees, mirrored):
    x, y = coordinates(np.radians(degrees), mirrored)
    label = drawn(x, y)
    skin = label == 1
    for name, expected in EXPECTED.items():
        found = region_of(name, label, CELEBAMASK_HQ)
        assert not (found & ~skin).any()
        # A pixel's width about the edge is what turning a grid costs.
        assert iou(found, skin & expected(x, y)) > 0.88, name


def test_regions_of_a_level_face_are_those_of_the_turned_one_to_the_pixel():
    label = drawn(*coordinates(0))
    for name in REGIONS:
        found = region_of(name, label, CELEBAMASK_HQ)
        for quarters in (1, 2, 3):
            turned = region_of(name, np.rot90(label, quarters), CELEBAMASK_HQ)
            # Sums of floating-point numbers decide a line of pixels that lies just on an edge.
            assert (turned != np.rot90(found, quarters)).sum() <= SIZE


def test_no_two_regions_share_a_pixel():
    label = drawn(*coordinates(0.4))
    found = {name: region_of(name, label, CELEBAMASK_HQ) for name in REGIONS}
    for first, second in itertools.combinations(REGIONS, 2):
        assert not (found[first] & found[second]).any(), (first, second)


def test_left_is_the_subject_s_also_where_the_set_s_names_mean_the_image_s():
    names = {"mouth": "inner_mouth"}
    for part in ("eye", "brow"):
        names |= {f"l_{part}": f"right_{part}", f"r_{part}": f"left_{part}"}
    x, y = coordinates(0)
    lapa = label_sets.get("lapa")
    label = drawn(x, y, label_set=lapa, names=names)
    for name in REGIONS:
        expected = region_of(name, drawn(x, y), CELEBAMASK_HQ)
        np.testing.assert_array_equal(region_of(name, label, lapa), expected)


@pytest.mark.parametrize("without", [("l_eye", "r_eye"), ("r_eye",)])
def test_landmarks_and_else_brows_stand_in_for_eyes_that_are_not_seen(without):
    x, y = coordinates(0.3)
    whole, label = drawn(x, y), drawn(x, y, without)
    cosine, sine = np.cos(0.3), np.sin(0.3)
    eyes = [(MIDDLE[0] + UNIT * at * cosine, MIDDLE[1] + UNIT * at * sine) for at in (-0.5, 0.5)]
    for landmarks in (np.array(eyes), None):
        for name in ("forehead", "left_cheek", "chin"):
            found = region_of(name, label, CELEBAMASK_HQ, landmarks)
            assert iou(found, region_of(name, whole, CELEBAMASK_HQ)) > 0.85, name


def test_without_a_mouth_or_both_eyes_and_brows_there_is_no_region():
    x, y = coordinates(0)
    for without in (("mouth",), ("l_eye", "l_brow")):
        label = drawn(x, y, without)
        assert not any(region_of(name, label, CELEBAMASK_HQ).any() for name in REGIONS)


def test_sets_without_skin_or_mouth_have_no_regions():
    assert regions_of(label_sets.get("figaro")) == ()
    assert regions_of(CELEBAMASK_HQ) == tuple(sorted(REGIONS))
    with pytest.raises(UserError, match="no region 'chin'; there are none with these classes"):
        region_of("chin", np.zeros((4, 4), np.uint8), label_sets.get("figaro"))


def two_faces():
    label = drawn(*coordinates(0))
    both = np.concatenate([label, np.rot90(label, 2)], axis=1)
    owner = np.repeat([[1, 2]], SIZE, axis=0).repeat(SIZE, axis=1).astype(np.uint8)
    faces = [Face((0, 0, SIZE, SIZE)), Face((SIZE, 0, 2 * SIZE, SIZE))]
    image = np.zeros((*both.shape, 3), np.uint8)
    return label, Result(image, both, owner, faces, CELEBAMASK_HQ)


def test_each_face_of_a_result_has_its_own():
    label, result = two_faces()
    cheek = region_of("left_cheek", label, CELEBAMASK_HQ)
    none = np.zeros_like(cheek)
    np.testing.assert_array_equal(
        result.region("left_cheek", face=0), np.concatenate([cheek, none], axis=1)
    )
    turned = result.region("left_cheek", face=1)[:, SIZE:]
    assert iou(turned, np.rot90(cheek, 2)) > 0.95
    both = result.region("left_cheek", 0) | result.region("left_cheek", 1)
    np.testing.assert_array_equal(result.region("left_cheek"), both)
    np.testing.assert_array_equal(result.mask("left_cheek"), both)
    np.testing.assert_array_equal(result.cutout("left_cheek")[..., 3], 255 * both)
    with pytest.raises(UserError, match="no face 2"):
        result.region("chin", face=2)
    with pytest.raises(UserError, match="no region 'hair'"):
        result.region("hair")


def test_a_result_without_faces_is_taken_to_show_one():
    label = drawn(*coordinates(0))
    result = Result(np.zeros((*label.shape, 3), np.uint8), label, 0 * label, [], CELEBAMASK_HQ)
    expected = region_of("forehead", label, CELEBAMASK_HQ)
    np.testing.assert_array_equal(result.region("forehead"), expected)


def test_regions_are_written_as_masks_a_file_a_face(tmp_path):
    options = parse_arguments(["a.png", "--masks=chin,face_and_ears", "--each_face"], "")
    _, result = two_faces()
    MaskFiles(options, CELEBAMASK_HQ).write(tmp_path, "a", result.image, result)
    for face in (0, 1):
        with PIL.Image.open(tmp_path / f"masks/face_{face}/chin/a.png") as file:
            np.testing.assert_array_equal(np.asarray(file), 255 * result.region("chin", face))


def test_soft_masks_of_regions_are_refused(tmp_path):
    pytest.importorskip("pymatting", reason="needs the extra soft")
    options = parse_arguments(["a.png", "--masks=chin", "--soft"], "")
    with pytest.raises(UserError, match="--soft has no edge to refine of the region chin"):
        MaskFiles(options, CELEBAMASK_HQ)


def test_a_region_of_a_wrong_name_ends_in_one_sentence(run, tmp_path):
    save(tmp_path / "photos" / "a.png", np.zeros((8, 8, 3), np.uint8))
    status, _, errors = run(tmp_path / "photos", "--masks=left_chin", out=tmp_path / "out")
    assert status == 1
    assert "--masks: there is no part 'left_chin'; there are background" in errors
    assert ", chin, forehead, left_cheek, " in errors


def test_groups_with_ears_and_glasses_are_the_face_and_those():
    def names(group):
        return {CELEBAMASK_HQ.classes[i] for i in masks.labels_of(group, CELEBAMASK_HQ)}

    assert names("face_and_ears") == names("face") | {"l_ear", "r_ear"}
    assert names("face_and_glasses") == names("face") | {"eye_g"}
    not_head = {"background", "neck", "neck_l", "cloth"}
    assert names("head") == set(CELEBAMASK_HQ.classes) - not_head
