import dataclasses
import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError

ALL = list(label_sets.LABEL_SETS.values())


@pytest.mark.parametrize("label_set", ALL, ids=lambda s: s.name)
def test_json_round_trip_keeps_everything_and_hash(label_set):
    again = label_sets.LabelSet.from_json(json.loads(json.dumps(label_set.to_json())))
    assert again == label_set
    assert hash(again) == hash(label_set)
    assert again.groups == label_set.groups


@pytest.mark.parametrize("label_set", ALL, ids=lambda s: s.name)
def test_mirroring_exchanges_exactly_the_names_of_left_and_right(label_set):
    table = label_set.mirror_table()
    np.testing.assert_array_equal(table[table], np.arange(256))
    assert table[label_set.ignore_label] == label_set.ignore_label
    swap = {"left_": "right_", "right_": "left_", "l_": "r_", "r_": "l_"}
    for label, name in enumerate(label_set.classes):
        partners = [
            new + name[len(old) :]
            for old, new in swap.items()
            if name.startswith(old) and new + name[len(old) :] in label_set.classes
        ]
        expected = label_set.classes.index(partners[0]) if partners else label
        assert table[label] == expected


@pytest.mark.parametrize("label_set", ALL, ids=lambda s: s.name)
def test_colours_can_be_told_apart(label_set):
    colours = np.array(label_set.palette, float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 40


def test_counts_and_scored_classes():
    assert [s.num_classes for s in ALL] == [11, 11, 19, 19, 11, 17, 3, 2, 6, 7]
    assert all(s.mean_f1_classes == tuple(range(1, s.num_classes)) for s in ALL)


def test_helens_overall_is_the_union_of_eyes_brows_nose_and_mouth():
    groups = label_sets.get("helen").groups
    union = {*groups["eyes"], *groups["brows"], *groups["mouth"], "nose"}
    assert set(groups["overall"]) == union
    assert len(union) == 8


def _centroid_order(label_set, label_maps):
    """Returns, over the pairs, how often the left part's centroid lies image-left of the right."""
    order = []
    for label in label_maps:
        for a, b in label_set.mirror_pairs:
            left, right = sorted((a, b), key=lambda i: label_set.classes[i].startswith("r"))
            if (label == left).any() and (label == right).any():
                order.append(
                    np.mean(np.where(label == left)[1]) < np.mean(np.where(label == right)[1])
                )
    return np.mean(order)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("celebamask_hq", "celebamask_hq_mini/labels/*.png"),
        ("face_synthetics", "face_synthetics_100/*_seg.png"),
        ("lapa", "lapa_one/labels/*.png"),
    ],
)
def test_left_is_what_real_labels_say(shared_dir, name, pattern):
    files = sorted((shared_dir / "data").glob(pattern))[:30]
    image_left = _centroid_order(label_sets.get(name), [np.array(PIL.Image.open(f)) for f in files])
    expected = {"image": 1.0, "subject": 0.0}[label_sets.get(name).left_is]
    assert abs(image_left - expected) < 0.2  # some profiles, some mislabelled ears


def test_label_name_file_of_a_declared_set_gives_that_set(shared_dir):
    path = shared_dir / "data" / "celebamask_hq_mini" / "label_names.txt"
    assert label_sets.get(path) is label_sets.CELEBAMASK_HQ


def test_label_name_file_of_an_own_set(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(
        "# my parts\nbackground\nface\nl_eye\nr_eye\n\nu_lip\nl_lip\nleft_ear\nright_ear\n"
    )
    mine = label_sets.get(str(path))
    assert mine.name == "mine"
    assert mine.classes[4:6] == ("u_lip", "l_lip")
    assert mine.mirror_pairs == ((2, 3), (6, 7))
    assert mine.left_is == "image"
    assert mine.palette[0] == (0, 0, 0)
    assert len(set(mine.palette)) == 8
    path.write_text("# left_is: subject\n" + path.read_text())
    assert label_sets.get(path).left_is == "subject"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left eye", "right eye"),
        ("Left-Eye", "Right-Eye"),
        ("eye_left", "eye_right"),
        ("Eye-L", "Eye-R"),
        ("lefteye", "righteye"),
        ("eyeleft", "eyeright"),
        ("EyeLeft", "EyeRight"),
        ("leftEye", "rightEye"),
        ("LEye", "REye"),
        ("leye", "reye"),
        ("l.eye", "r.eye"),
        ("upper left lip", "Upper_Right_Lip"),
        ("LEFT_EYE", "right_eye"),
        ("Left", "Right"),
    ],
)
def test_left_and_right_pair_in_any_common_spelling(tmp_path, left, right):
    path = tmp_path / "mine.txt"
    path.write_text(f"background\n{right}\nnose\n{left}\n")
    assert label_sets.get(path).mirror_pairs == ((3, 1),)
    assert label_sets.get(path).left_is == "image"


@pytest.mark.parametrize(
    "names",
    [
        ("u_lip", "l_lip", "ear_r", "l_ear"),
        ("bright", "cleft", "hair"),
        ("lip", "rip", "light", "night"),
        ("neck_l", "neck"),
    ],
)
def test_names_that_only_look_alike_are_no_pair(tmp_path, names):
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(["background", *names]))
    assert label_sets.get(path).mirror_pairs == ()


@pytest.mark.parametrize("name", ["left eye", "righteye", "Ear-Left"])
def test_a_lone_half_is_refused_unless_nothing_is_to_be_mirrored(tmp_path, name):
    path = tmp_path / "mine.txt"
    path.write_text(f"background\n{name}\nl_brow\nr_brow\n")
    with pytest.raises(UserError, match=f"{name}.*no other class.*left_is: none"):
        label_sets.get(path)
    path.write_text("# left_is: none\n" + path.read_text())
    assert label_sets.get(path).mirror_pairs == ()


def test_label_name_file_without_left_and_right(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("background\nface\n")
    assert label_sets.get(path).left_is == "none"
    assert label_sets.get(path).mirror_pairs == ()


def test_json_file_declares_everything(tmp_path):
    path = tmp_path / "mine.json"
    mine = dataclasses.replace(label_sets.HELEN, name="mine", ignore_label=200)
    path.write_text(json.dumps(mine.to_json()))
    assert label_sets.get(path) == mine


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="helen, lapa, celebamask_hq, face_synthetics"):
        label_sets.get("helena")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("background\nskin\nskin\n", "'skin' twice"),
        ("background\n", "1 classes"),
        ("# left_is: mine\nbackground\nl_a\nr_a\n", "left_is 'mine'"),
    ],
)
def test_unusable_name_files_say_why(tmp_path, text, message):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        label_sets.get(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"palette": ((0, 0, 0),)}, "1 colours for 11 classes"),
        ({"mirror_pairs": ((2, 3), (3, 4))}, "mirror pairs"),
        ({"mirror_pairs": ((2, 11),)}, "below 11"),
        ({"mirror_pairs": ()}, "no mirror pairs"),
        ({"groups": {"eyes": ("eye",)}}, "unknown class 'eye'"),
        ({"ignore_label": 10}, "ignore label 10"),
        ({"name": "a\nb"}, r"the name 'a\\nb'; a name must be printable text on one line"),
        *(
            ({"classes": (*label_sets.HELEN.classes[:-1], name)}, "a name must be printable text")
            for name in ("\ud800", "a\nb", "# hair", "a\0", "\x1b[2J", " hair", "\u202ehair")
        ),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(label_sets.HELEN, **change)


def test_json_with_a_missing_or_unreadable_part(tmp_path):
    data = label_sets.HELEN.to_json()
    del data["left_is"]
    with pytest.raises(UserError, match="left_is"):
        label_sets.LabelSet.from_json(data)
    path = pathlib.Path(tmp_path) / "broken.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"broken\.json"):
        label_sets.get(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="JSON object"):
        label_sets.get(path)


def test_convention_says_whose_left():
    assert "subject" in label_sets.CELEBAMASK_HQ.convention
    assert "left is image-left" in label_sets.LAPA.convention
    bare = dataclasses.replace(
        label_sets.HELEN,
        classes=("background", "face"),
        palette=((0, 0, 0), (1, 1, 1)),
        mirror_pairs=(),
        left_is="none",
        groups={},
    )
    assert "2 classes" in bare.convention
    assert "no left and right" in bare.convention


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffbackground\nface\n".encode())
    mine = label_sets.get(path)
    assert mine.classes == ("background", "face")
    assert mine.mean_f1_classes == (1,)
    path.write_bytes(("\ufeff" + "\n".join(label_sets.HELEN.classes)).encode())
    assert label_sets.get(path) == label_sets.HELEN


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"classes": "background"},
        {"classes": ["background", 7]},
        {"classes": None},
        {"mirror_pairs": [[2, 3, 4]]},
        {"mirror_pairs": [["2", "3"]]},
        {"mirror_pairs": 5},
        {"left_is": []},
        {"palette": [[0, 0]] * 11},
        {"palette": [[0, 0, 256]] * 11},
        {"palette": [[0, 0, float("nan")]] * 11},
        {"groups": ["eyes"]},
        {"groups": {"eyes": "left_eye"}},
        {"ignore_label": "255"},
        {"ignore_label": float("inf")},
        {"ignore_label": True},
    ],
)
def test_json_of_other_types_is_refused_by_field(tmp_path, change):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(label_sets.HELEN.to_json() | change))
    with pytest.raises(UserError, match=f"mine.json: the label set's {next(iter(change))} must be"):
        label_sets.get(path)


def test_a_file_of_something_else_is_no_label_name_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"\x80\x81")
    with pytest.raises(UserError, match=r"names\.txt is not a readable label-name file"):
        label_sets.get(path)
    path.write_bytes(b"a\n" * 2**20)
    with pytest.raises(UserError, match="more than 1,048,576 bytes"):
        label_sets.get(path)


def test_a_text_file_may_say_what_each_label_means(tmp_path):
    file = tmp_path / "beards.txt"
    file.write_text(
        "# means_in: celebamask_hq\nbackground: background, cloth\nface: skin, nose\nhair\n"
    )
    label_set = label_sets.get(file)
    assert label_set.classes == ("background", "face", "hair")
    assert label_set.means_in == "celebamask_hq"
    assert label_set.means == {
        "background": ("background", "cloth"),
        "face": ("skin", "nose"),
        "hair": ("hair",),
    }
    again = label_sets.LabelSet.from_json(json.loads(json.dumps(label_set.to_json())))
    assert (again.means, again.means_in) == (label_set.means, label_set.means_in)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# means_in: helena\na: skin\nb: hair\n", "no label set 'helena'"),
        ("# means_in: celebamask_hq\na: skin, beard\nb: hair\n", "'a' means 'beard'"),
    ],
)
def test_meanings_that_nobody_knows_are_named(tmp_path, text, words):
    file = tmp_path / "names.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=words):
        label_sets.get(file)


def test_sets_without_meanings_are_written_as_before():
    assert not {"means", "means_in"} & set(label_sets.HELEN.to_json())
