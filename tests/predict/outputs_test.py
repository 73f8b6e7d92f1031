import io
import json
import os

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import outputs
from dmlcsr_jax.predict.folder import FileOutput
from dmlcsr_jax.predict.photographs import Picture

HELEN = label_sets.HELEN
SETTINGS = {"network": "abc", "scales": (1.0, 2.0), "flip": False}


def test_label_png_has_labels_for_indices_and_the_palette():
    label = np.random.default_rng(0).integers(0, 11, (13, 17), np.uint8)
    data = outputs.label_png(label, HELEN, "sub/ä 1.jpg")
    with PIL.Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "P"
        assert picture.text["name"] == "sub/ä 1.jpg"
        np.testing.assert_array_equal(np.asarray(picture), label)
        np.testing.assert_array_equal(
            np.asarray(picture.convert("RGB")), np.array(HELEN.palette)[label]
        )


def test_overlay_jpeg_keeps_red_red():
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = 255
    data = outputs.overlay_jpeg(image, np.zeros((32, 32), np.uint8), HELEN, 0.5)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(read.astype(int) - [255, 0, 0]).max() < 8


def test_names_and_label_set_give_the_label_set_back(tmp_path):
    out = outputs.open_folder(tmp_path / "out", HELEN, SETTINGS, "ckpt")
    assert label_sets.get(str(out / "names.txt")) == HELEN
    assert label_sets.get(str(out / "label_set.json")) == HELEN
    assert json.loads((out / "predict.json").read_text())["checkpoint"] == "ckpt"


def test_folder_of_the_same_settings_goes_on(tmp_path):
    for _ in range(2):
        outputs.open_folder(tmp_path, HELEN, SETTINGS, "ckpt")
    with pytest.raises(UserError, match=r"flip \(False there, True here\); give another"):
        outputs.open_folder(tmp_path, HELEN, SETTINGS | {"flip": True}, "ckpt")


def test_labels_of_somebody_else_are_left_alone(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "mine.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="did not write"):
        outputs.open_folder(tmp_path, HELEN, SETTINGS, "ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(outputs.OutputError, match="file"):
        outputs.open_folder(tmp_path / "file" / "out", HELEN, SETTINGS, "ckpt")


def test_finished_means_all_files_newer_than_the_photograph_and_made_of_its_content(tmp_path):
    source = tmp_path / "a.jpg"
    source.write_bytes(b"photo")
    os.utime(source, (1000, 1000))
    picture = Picture(0, "a.jpg", "a", source=source)
    output = FileOutput(tmp_path, HELEN, 0.5)
    assert not output.is_finished(picture, "5 bytes")
    output.write(picture, np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.uint8), "5 bytes")
    assert output.is_finished(picture, "5 bytes")
    assert not output.is_finished(picture, "6 bytes")
    os.utime(tmp_path / "labels" / "a.png", (999, 999))
    assert not output.is_finished(picture, "5 bytes")
    os.utime(tmp_path / "labels" / "a.png", (1001, 1001))
    (tmp_path / "overlays" / "a.jpg").unlink()
    assert not output.is_finished(picture, "5 bytes")
    without = FileOutput(tmp_path, HELEN, None)
    assert without.is_finished(picture, "5 bytes")
    (tmp_path / "labels" / "a.png").write_bytes(b"damaged")
    assert not without.is_finished(picture, "5 bytes")


def test_a_place_that_cannot_be_had_does_not_end_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a.png", tmp_path / "folder", tmp_path / ("a" * 256)):
        with pytest.raises(outputs.PlaceError, match="cannot") as error:
            outputs.write(path, b"")
        assert not outputs.ends_the_run(error.value)
    outputs.write(tmp_path / ("a" * 255), b"content")
    assert (tmp_path / ("a" * 255)).read_bytes() == b"content"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a" * 255, "file", "folder"]
