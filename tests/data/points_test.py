"""Weak labels from 68 points: where they are sure, on which side, and which files are refused."""

import cv2
import numpy as np
import pytest

from dmlcsr_jax.data.label_sets import IBUG_68
from dmlcsr_jax.data.points import PointsSource, draw_points
from dmlcsr_jax.errors import UserError


def around(x, y, rx, ry, count, start=0.0):
    angles = start + np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], -1)


def face_points():
    """A face of 100 by 120 pixels in the middle of 200 by 200."""
    jaw = np.stack([np.linspace(50, 150, 17), 100 + 60 * np.sin(np.linspace(0, np.pi, 17))], -1)
    brow = np.stack([np.linspace(0, 30, 5), np.zeros(5)], -1)
    nose = [[100, 95], [100, 102], [100, 110], [100, 118]]
    nose += [[90, 124], [95, 126], [100, 127], [105, 126], [110, 124]]
    lips = around(100, 143, 18, 7, 12, np.pi)
    inner = around(100, 143, 12, 2, 8, np.pi)
    return np.concatenate(
        [
            jaw,
            np.add(brow, (60, 78)),
            np.add(brow, (110, 78)),
            nose,
            around(75, 92, 9, 4, 6, np.pi),
            around(125, 92, 9, 4, 6, np.pi),
            lips,
            inner,
        ]
    )


def at(label, x, y):
    value = label[2 * y + 1, 2 * x + 1]
    return None if value == 255 else IBUG_68.classes[value]


def test_parts_lie_where_the_points_are():
    label = draw_points(face_points(), (200, 200))
    assert label.shape == (400, 400)
    # The subject's right is on the image's left.
    assert at(label, 75, 92) == "r_eye"
    assert at(label, 125, 92) == "l_eye"
    assert at(label, 70, 78) == "r_brow"
    assert at(label, 130, 78) == "l_brow"
    assert at(label, 100, 110) == "nose"
    assert at(label, 100, 143) == "mouth"


def test_between_them_nothing_is_sure_and_beyond_is_none_of_them():
    label = draw_points(face_points(), (200, 200))
    assert at(label, 100, 152) is None  # just below the lips
    assert at(label, 100, 157) == "background"  # the chin
    assert at(label, 20, 20) is None  # outside the face
    assert at(label, 100, 190) is None
    assert (label == 255).mean() > 0.8


def test_all_of_an_eye_is_an_eye():
    label = draw_points(face_points(), (200, 200)) == IBUG_68.classes.index("r_eye")
    _ys, xs = np.nonzero(label)
    np.testing.assert_allclose([xs.min() / 2, xs.max() / 2], [66, 84], atol=1)
    hull = cv2.convexHull(np.float32(face_points()[36:42]))
    np.testing.assert_allclose(label.sum() / 4, cv2.contourArea(hull), rtol=0.25)


def write_set(folder, lines, names):
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "anna_1.png"), np.full((200, 200, 3), 80, np.uint8))
    (folder / "points.csv").write_text("\n".join(lines))
    (folder / "train_list.txt").write_text("\n".join(names))


def line(name):
    return ",".join([name, *(f"{value:.1f}" for value in face_points().ravel())])


def test_a_folder_of_points_is_a_source(tmp_path):
    write_set(tmp_path, [line("berta_2"), line("anna_1")], ["images/anna_1.png"])
    source = PointsSource(tmp_path, "train")
    assert len(source) == 1
    example = source[0]
    assert example["name"] == "anna_1"
    assert example["image"].shape == (200, 200, 3)
    np.testing.assert_array_equal(example["label"], draw_points(face_points().round(1), (200, 200)))


@pytest.mark.parametrize(
    ("lines", "names", "words"),
    [
        (["anna_1,1,2,3"], ["images/anna_1.png"], r"points\.csv line 1 is not"),
        ([line("anna_1")], ["images/carla_1.png"], r"no points of carla_1"),
        ([line("anna_1")], [], "lists no example"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, lines, names, words):
    write_set(tmp_path, lines, names)
    with pytest.raises(UserError, match=words):
        PointsSource(tmp_path, "train")
