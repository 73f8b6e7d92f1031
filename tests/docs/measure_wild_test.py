"""The figures of the field's sets, by hand on tiny pictures; the parser reads its answer off them.

The red channel of each photograph holds the label map that the parser in its place gives.
"""

import json
import sys
import types

import numpy as np
import PIL.Image
import pytest
import sklearn.metrics

from dmlcsr_jax.data.label_sets import CELEBAMASK_HQ, FACE_SYNTHETICS
from docs import measure_wild, wild_labels, wild_sets

OTHER_GREEN = 7


def label_of(*names: str) -> list[int]:
    return [CELEBAMASK_HQ.classes.index(name) for name in names]


def write(folder, name, prediction, label=None):
    prediction = np.array(prediction, np.uint8)
    image = np.dstack([prediction, np.full_like(prediction, OTHER_GREEN), prediction])
    (folder / "images").mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(image).save(folder / "images" / f"{name}.png")
    if label is not None:
        (folder / "labels").mkdir(exist_ok=True)
        PIL.Image.fromarray(np.array(label, np.uint8)).save(folder / "labels" / f"{name}.png")


def parse(images):
    assert all((image[..., 1] == OTHER_GREEN).all() for image in images)
    return [image[..., 0] for image in images]


def figures(root, **kwargs):
    (found,) = measure_wild.measure(parse, root, **{"everyone": True} | kwargs).values()
    return found


def test_what_a_group_allows_is_right_and_what_is_not_known_counts_nowhere(tmp_path):
    predicted = label_of("background", "ear_r", "skin", "ear_r", "eye_g", "hair", "hat", "hat")
    write(tmp_path / "lfw_parts", "Ann_0001", [predicted], [[0, 0, 1, 1, 1, 2, 2, 255]])
    found = figures(tmp_path)
    assert found["images"] == 1
    # Of the hair one pixel of two is found, the other becomes a third pixel of the rest.
    assert found["figures"] == pytest.approx(
        {"face F1": 1, "hair F1": 2 / 3, "background F1": 4 / 5, "mean F1": 5 / 6}
    )


def test_hair_agrees_with_scikit_learn(tmp_path):
    rng = np.random.default_rng(0)
    truths, predictions = rng.integers(0, 2, (3, 9, 7)), rng.integers(0, 19, (3, 9, 7))
    for index in range(3):
        write(tmp_path / "figaro", f"Frame{index}", predictions[index], truths[index])
    expected = sklearn.metrics.f1_score(
        truths.ravel(), predictions.ravel() == CELEBAMASK_HQ.classes.index("hair")
    )
    assert figures(tmp_path)["figures"]["hair F1"] == pytest.approx(expected, abs=1e-12)


def test_profiles_have_figures_of_their_own(tmp_path):
    root = tmp_path / "fasseg"
    eyes_and_nose = label_of("l_eye", "r_eye", "nose", "nose")
    write(root, "0_personne03146+0+0", [eyes_and_nose], [[3, 3, 4, 4]])
    write(root, "-90_personne03140+0-90", [eyes_and_nose], [[3, 4, 4, 4]])
    write(root, "+75_personne03151+0+75", [label_of(*["l_brow"] * 4)], [[2, 2, 1, 2]])
    found = figures(tmp_path)["figures"]
    assert found["eyes F1"] == pytest.approx(6 / 7)
    assert found["nose F1"] == pytest.approx(8 / 9)
    assert found["hair_and_brows F1"] == pytest.approx(6 / 7)
    assert found["skin F1"] == 0
    assert found["mean F1"] == pytest.approx((6 / 7 + 8 / 9 + 6 / 7 + 0) / 4)
    assert found["eyes F1 at +-90 degrees"] == pytest.approx(2 / 3)
    assert found["mean F1 at +-90 degrees"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def face_points() -> np.ndarray:
    """Eyes are two rectangles of 5x3 pixels, the lips' outline a diamond of radius 3."""
    points = np.zeros((68, 2))
    points[17:27] = [(x, 1) for x in range(2, 12)]
    eye = np.array([(2, 4), (4, 4), (6, 4), (6, 6), (4, 6), (2, 6)])
    points[36:42], points[42:48] = eye, np.add(eye, (8, 0))
    ring = [(dx, dy) for dx in range(-3, 4) for dy in (abs(dx) - 3, 3 - abs(dx))]
    around = sorted(set(ring), key=lambda at: np.arctan2(at[1], at[0]))
    points[48:60] = np.add(around, (8, 12))
    return points


def drawn_face() -> np.ndarray:
    y, x = np.mgrid[:18, :18]
    label = np.zeros((18, 18), np.uint8)
    label[4:7, 2:7] = label[4:7, 10:15] = 1
    label[abs(x - 8) + abs(y - 12) <= 3] = 2
    return label


def test_points_are_drawn_as_the_pixels_within_and_on_their_outlines():
    label = wild_labels.draw_points(face_points(), (18, 18))
    np.testing.assert_array_equal(label, drawn_face())
    cut = wild_labels.draw_points(face_points() - [4, 0], (12, 12))
    np.testing.assert_array_equal(cut, drawn_face()[:12, 4:16])


def test_labels_are_read_at_the_nearest_pixel_and_nowhere_outside():
    label = np.arange(6, dtype=np.uint8).reshape(2, 3)
    at = np.array([(0, 0), (1.6, 0.7), (-1, 0), (3, 1), (2, 2)])
    np.testing.assert_array_equal(wild_labels.labels_at(at, label), [0, 5])


def test_parts_of_faces_with_points_are_looked_for(tmp_path):
    root, face = tmp_path / "youtube", drawn_face()
    left, right, brow, lip = label_of("l_eye", "r_eye", "l_brow", "u_lip")
    shown = np.where(face == 2, lip, 0)
    shown[4:7, 2:7] = right
    shown[4, 10:15] = left
    shown[1, 2:6] = brow
    write(root, "Ann_0", shown)
    # Of Ben's mouth only the lower 16 of 25 pixels are found.
    write(root, "Ben_0", np.where((face == 2) & (np.arange(18)[:, None] >= 12), lip, 0))
    values = ",".join(map(str, face_points().ravel()))
    (root / "points.csv").write_text(f"Ann_0,{values}\nBen_0,{values}\n")
    assert figures(tmp_path)["figures"] == pytest.approx(
        {
            "eyes not found": 1 / 2,
            "eyes below 20 pixels": 1 / 2,
            "eyes F1": 2 * 20 / (20 + 60),
            "eyes F1, mean over images": (2 * 20 / (20 + 30) + 0) / 2,
            "mouth not found": 0,
            "mouth below 20 pixels": 1 / 2,
            "mouth F1": 2 * 41 / (41 + 50),
            "mouth F1, mean over images": (1 + 2 * 16 / (16 + 25)) / 2,
            "brow points on a brow": 4 / 20,
        }
    )


ALL_PARTS = ("l_eye", "r_eye", "l_brow", "r_brow", "nose", "u_lip", "l_lip")


def test_faces_without_labels_are_counted_by_origin_and_age(tmp_path):
    root = tmp_path / "utkface"
    in_glasses = label_of("eye_g", *ALL_PARTS[2:])
    write(root, "9_0_2_1", [label_of(*ALL_PARTS)])
    write(root, "10_1_2_2", [in_glasses])
    write(root, "65_1_0_3", [label_of(*ALL_PARTS[1:])])
    write(root, "64_1_0_4", [label_of(*ALL_PARTS[:-1])])
    found = figures(tmp_path)["figures"]
    assert found["all parts"] == 1 / 2
    assert (found["Asian"], found["white"]) == (1, 0)
    assert (found["under 10"], found["10 to 19"]) == (1, 1)
    assert (found["40 to 64"], found["65 and over"]) == (0, 0)
    assert np.isnan(found["Indian"])
    assert np.isnan(found["20 to 39"])
    assert found["all parts, 20 pixels"] == 0
    assert (found["both eyes or glasses"], found["both lips"], found["nose"]) == (3 / 4, 3 / 4, 1)


def test_a_part_is_seen_from_20_pixels_on(tmp_path):
    root = tmp_path / "utkface"
    shown = np.repeat([label_of(*ALL_PARTS)], 20, axis=0)
    write(root, "30_0_1_1", shown)
    shown[0, 4] = 0
    write(root, "30_0_3_2", shown)
    found = figures(tmp_path)["figures"]
    assert (found["Black, 20 pixels"], found["Indian, 20 pixels"], found["Indian"]) == (1, 0, 1)
    assert found["20 to 39, 20 pixels"] == 1 / 2


def test_face_synthetics_is_compared_in_the_classes_of_both(tmp_path):
    root = tmp_path / "face_synthetics_100"
    root.mkdir()
    truth = [[FACE_SYNTHETICS.classes.index(n) for n in ("beard", "left_eye", "hair", "facewear")]]
    # The image's left is the subject's right.
    write(tmp_path, "0", [label_of("skin", "r_eye", "hat", "hat")])
    (tmp_path / "images" / "0.png").rename(root / "0.png")
    PIL.Image.fromarray(np.array(truth, np.uint8)).save(root / "0_seg.png")
    found = figures(tmp_path)["figures"]
    assert {name: value for name, value in found.items() if not np.isnan(value)} == pytest.approx(
        {"mean F1": 1 / 2, "skin F1": 1, "left_eye F1": 1, "hair F1": 0, "hat F1": 0}
    )


def test_only_one_person_in_seven_is_judged_with_all_photographs(tmp_path):
    for person in range(1, 8):
        for turn in (0, -90):
            write(tmp_path / "fasseg", f"{turn}_personne0{person}1", [[0]], [[0]])
    # By sha256sum only that of "3" is divisible by seven.
    assert figures(tmp_path, everyone=False)["images"] == 2
    assert figures(tmp_path)["images"] == 14
    assert figures(tmp_path, limit=3)["images"] == 3


def test_few_photographs_are_spread_over_all(tmp_path):
    files = [tmp_path / f"{index:02}.jpg" for index in range(10)]
    chosen = measure_wild.choose(files, wild_sets.UnlabelledFaces(), True, 3)
    assert [file.stem for file in chosen] == ["00", "03", "06"]


class Parser:
    label_set = CELEBAMASK_HQ

    def __init__(self, checkpoint, batch_size):
        assert checkpoint == "default"

    def __call__(self, images):
        return [types.SimpleNamespace(label=label) for label in parse(images)]


def test_the_command_prints_and_writes_the_figures(tmp_path, monkeypatch, capsys):
    hat, skin = label_of("hat", "skin")
    grass = np.dstack([np.array([[hat, skin, 0, 0]], np.uint8)] * 3)
    grass[..., 1] = OTHER_GREEN
    monkeypatch.setattr(measure_wild, "FaceParser", Parser)
    monkeypatch.setattr(measure_wild, "pictures_without_a_face", lambda: {"grass": grass})
    write(tmp_path / "figaro", "Frame1", [[0, *label_of("hair", "hair")]], [[0, 1, 0]])
    out = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["", f"--root={tmp_path}", "--all", f"--out={out}"])
    measure_wild.main()
    written = json.loads(out.read_text())
    assert written["figaro"]["images"] == 1
    assert written["figaro"]["figures"]["hair F1"] == pytest.approx(2 / 3)
    assert written["no face: grass"]["figures"] == {"labelled": 0.5, "hat": 0.25}
    printed = capsys.readouterr().out
    assert [row.split() for row in printed.splitlines() if "hair F1" in row] == [
        ["|", "figaro", "|", "1", "|", "hair", "F1", "|", "66.7", "|"]
    ]


@pytest.mark.parametrize(
    ("folder", "name", "said"),
    [
        ("utkface", "39_1_20170116174525125", "AGE_GENDER_ORIGIN_DATE"),
        ("fasseg", "portrait", "turn and person"),
        ("nothing", "0", "holds none of lfw_parts"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, monkeypatch, capsys, folder, name, said):
    write(tmp_path / folder, name, [[0]], [[0]])
    monkeypatch.setattr(measure_wild, "FaceParser", Parser)
    monkeypatch.setattr(measure_wild, "pictures_without_a_face", dict)
    monkeypatch.setattr(sys, "argv", ["", f"--root={tmp_path}", "--all"])
    with pytest.raises(SystemExit) as stop:
        measure_wild.main()
    assert stop.value.code == 1
    assert said in capsys.readouterr().err.splitlines()[-1]
