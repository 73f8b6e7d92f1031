"""Masks and cutouts, of a result and from the command line, against labels drawn by hand."""

import dataclasses

import numpy as np
import PIL.Image
import pytest
from colour_network import LABEL_SET, picture
from etils import epath
from prediction_files import files_below, read_label, save

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import masks
from dmlcsr_jax.predict.arguments import parse_arguments
from dmlcsr_jax.predict.faces import Face
from dmlcsr_jax.predict.mask_files import MaskFiles
from dmlcsr_jax.predict.mask_shape import Shape
from dmlcsr_jax.predict.photographs import Picture
from dmlcsr_jax.predict.result import Result

# Helen: 7 upper lip, 8 inner mouth, 9 lower lip, 10 hair.
CELLS = [[1, 7, 7, 10], [5, 8, 9, 10], [9, 9, 1, 0]]
LABEL = np.kron(np.array(CELLS, np.uint8), np.ones((3, 5), np.uint8))
LIPS = (LABEL == 7) | (LABEL == 9)
BOX_A, BOX_B = (0, 0, 8, 9), (10, 0, 20, 9)


def result_of_two_faces():
    owner = np.where(np.arange(20) < 10, 1, 2)[None].repeat(9, 0).astype(np.uint8)
    image = np.random.default_rng(0).integers(0, 256, (9, 20, 3), np.uint8)
    return Result(image, LABEL, owner, [Face(BOX_A), Face(BOX_B)], LABEL_SET)


def read(path):
    with PIL.Image.open(path) as file:
        return file.mode, np.asarray(file)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("celebamask_hq", {"u_lip", "l_lip"}),
        ("lapa", {"upper_lip", "lower_lip"}),
        ("face_synthetics", {"top_lip", "bottom_lip"}),
    ],
)
def test_lips_are_both_lips_in_every_set(name, expected):
    label_set = label_sets.get(name)
    found = masks.labels_of("lips", label_set)
    assert {label_set.classes[label] for label in found} == expected


@pytest.mark.parametrize("name", ["celebamask_hq", "helen", "lapa", "face_synthetics"])
def test_the_face_is_what_hair_clothes_and_background_are_not(name):
    label_set = label_sets.get(name)
    face = {label_set.classes[label] for label in masks.labels_of("face", label_set)}
    beyond = ("background", "hair", "hat", "headwear", "neck", "neck_l", "cloth", "clothing")
    beyond += ("l_ear", "r_ear", "left_ear", "right_ear", "ear_r", "eye_g", "glasses", "facewear")
    assert face == set(label_set.classes) - set(beyond)


def test_a_group_is_the_union_of_its_classes_and_a_face_s_part_of_it():
    result = result_of_two_faces()
    np.testing.assert_array_equal(result.mask("lips"), LIPS)
    left = np.arange(20) < 10
    np.testing.assert_array_equal(result.mask("lips", face=0), LIPS & left)
    np.testing.assert_array_equal(result.mask("lips", face=1), LIPS & ~left)


def test_a_cutout_is_the_photograph_and_clear_outside():
    result = result_of_two_faces()
    cutout = result.cutout("hair")
    np.testing.assert_array_equal(cutout[..., :3], result.image)
    np.testing.assert_array_equal(cutout[..., 3], np.where(LABEL == 10, 255, 0))


def test_groups_that_a_set_has_no_class_of_are_not_there():
    with pytest.raises(UserError, match=r"no part 'ears'; .*hair, lips, eyes, brows, face, "):
        result_of_two_faces().mask("ears")


def test_files_are_white_on_black_at_the_photograph_s_size(run, tmp_path):
    image = picture(CELLS)
    save(tmp_path / "photos" / "sub" / "a.png", image)
    out = tmp_path / "out"
    arguments = ("--masks=lips,hair", "--cutout=hair", "--no_overlay")
    assert run(tmp_path / "photos", *arguments, out=out)[0] == 0
    names = [name for name in files_below(out) if name.endswith("a.png")]
    assert names == [
        "cutouts/hair/sub/a.png",
        "labels/sub/a.png",
        "masks/hair/sub/a.png",
        "masks/lips/sub/a.png",
    ]
    label = read_label(out / "labels/sub/a.png")
    mode, lips = read(out / "masks/lips/sub/a.png")
    assert mode == "L"
    np.testing.assert_array_equal(lips, np.where((label == 7) | (label == 9), 255, 0))
    mode, cutout = read(out / "cutouts/hair/sub/a.png")
    assert mode == "RGBA"
    np.testing.assert_array_equal(cutout[..., :3], image)
    np.testing.assert_array_equal(cutout[..., 3], np.where(label == 10, 255, 0))


def test_all_is_every_class_but_the_background_and_a_lost_mask_is_made_again(run, tmp_path):
    save(tmp_path / "photos" / "a.png", picture(CELLS))
    out = tmp_path / "out"
    for _ in range(2):
        assert run(tmp_path / "photos", "--masks=all", "--no_overlay", out=out)[0] == 0
        found = {path.parent.name for path in (out / "masks").glob("*/a.png")}
        assert found == set(LABEL_SET.classes) - {"background"}
        (out / "masks" / "nose" / "a.png").unlink()


def test_each_face_has_its_file(run, tmp_path):
    save(tmp_path / "photos" / "a.png", picture([[7, 9, 0, 0, 9, 7]]))
    boxes = tmp_path / "boxes.csv"
    rows = ["a.png,0,0,32,16\n", "a.png,64,0,96,16\n"]
    out = tmp_path / "out"
    boxes.write_text("name,x0,y0,x1,y1\n" + "".join(rows))
    arguments = (f"--boxes={boxes}", "--masks=lips", "--each_face", "--no_overlay")
    assert run(tmp_path / "photos", *arguments, out=out)[0] == 0
    for face, at in ((0, slice(0, 48)), (1, slice(48, 96))):
        _, mask = read(out / f"masks/face_{face}/lips/a.png")
        label = read_label(out / "labels/a.png")
        expected = np.zeros_like(label)
        expected[:, at] = np.isin(label[:, at], (7, 9)) * 255
        np.testing.assert_array_equal(mask, expected)
        assert mask.any()


def test_files_of_faces_too_many_are_removed(tmp_path):
    out = tmp_path / "out"
    for face in (0, 1, 2):
        save(out / f"masks/face_{face}/lips/a.png", picture([[1]]))
    save(out / "masks/face_0/lips/b.png", picture([[1]]))
    options = parse_arguments(["a.png", "--masks=lips", "--each_face"], "")
    files = MaskFiles(options, LABEL_SET)
    files.write(epath.Path(out), "a", None, result_of_two_faces())
    found = [name for name in files_below(out) if name.startswith("masks")]
    assert found == [f"masks/face_{f}/lips/{n}.png" for f, n in ((0, "a"), (0, "b"), (1, "a"))]


def test_files_are_shaped_as_the_result_is(run, tmp_path):
    save(tmp_path / "photos" / "a.png", picture(CELLS))
    out = tmp_path / "out"
    shape = ("--grow=5%", "--feather=6", "--clean=0.2")
    arguments = ("--masks=hair", "--cutout=hair", "--no_overlay")
    assert run(tmp_path / "photos", *arguments, *shape, out=out)[0] == 0
    label = read_label(out / "labels/a.png")
    _, mask = read(out / "masks/hair/a.png")
    _, cutout = read(out / "cutouts/hair/a.png")
    np.testing.assert_array_equal(mask, cutout[..., 3])
    assert len(np.unique(mask)) > 3
    np.testing.assert_array_equal(mask > 127, Shape(grow=0.05 * 64).applied(label == 10))
    # The same photographs in another shape replace them.
    assert run(tmp_path / "photos", *arguments, out=out)[0] == 0
    _, mask = read(out / "masks/hair/a.png")
    np.testing.assert_array_equal(mask, 255 * (label == 10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--masks=lipz"], "--masks: there is no part 'lipz'"),
        (["--cutout=ears"], "--cutout: there is no part 'ears'"),
        (["--each_face"], "--each_face is for --masks and --cutout"),
        (["--masks=hair", "--each_face", "--face=0"], "--each_face writes all faces"),
        (["--grow=2"], "--grow is for --masks and --cutout"),
        (["--masks=hair", "--grow=wide"], "grow is 'wide'"),
        (["--masks=hair", "--grow=200%"], "grow is '200%'"),
        (["--masks=hair", "--feather=-1"], "feather is -1"),
        (["--masks=hair", "--feather=inf"], "feather is 'inf'"),
        (["--masks=hair", "--clean=1.5"], "clean is 1.5"),
        (["--masks=hair", "--clean=nan"], "clean is nan"),
        (["--soft"], "--soft is for --masks and --cutout"),
        (["--masks=hair", "--soft_bits=16"], "--soft_bits is for --soft"),
        (["--masks=hair", "--shards"], "--masks and --cutout write files"),
    ],
)
def test_wrong_options_end_in_one_sentence(refused, arguments, message):
    refused(arguments, message)


def test_a_class_whose_name_is_no_folder_s_writes_nothing():
    odd = dataclasses.replace(LABEL_SET, classes=(*LABEL_SET.classes[:-1], "../hair"))
    options = parse_arguments(["a.png", "--masks=all"], "")
    with pytest.raises(UserError, match=r"--masks: a folder cannot be called '\.\./hair'"):
        MaskFiles(options, odd)


def test_videos_have_no_masks():
    files = MaskFiles(parse_arguments(["a.mp4", "--masks=hair"], ""), LABEL_SET)
    with pytest.raises(UserError, match=r"a\.mp4 is a video; --masks"):
        files.require_photograph(Picture(0, "a.mp4", "a"))
