import io
import json
import os

import cv2
import numpy as np
import PIL.Image
import pytest
from prediction_files import files_below

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import outputs
from dmlcsr_jax.predict.folder import FileOutput
from dmlcsr_jax.predict.origin import Origin
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
    data = outputs.overlay_jpeg(image, np.zeros((32, 32), np.uint8), HELEN, 0.5, "")
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(read.astype(int) - [255, 0, 0]).max() < 8


def test_what_no_jpeg_can_hold_is_said(tmp_path):
    image = np.zeros((1, 65_501, 3), np.uint8)
    with pytest.raises(UserError, match=r"overlay of a\.jpg .* 65501x1 pixels") as error:
        outputs.overlay_jpeg(image, image[..., 0], HELEN, 0.5, "a.jpg")
    assert not outputs.ends_the_run(error.value)
    image = image[:, :65_500]
    assert outputs.overlay_jpeg(image, image[..., 0], HELEN, 0.5, "a.jpg")[:2] == b"\xff\xd8"


def test_what_a_killed_run_left_is_removed_and_what_another_writes_stays(tmp_path):
    old = [tmp_path / "labels/sub/.ab.part", tmp_path / "labels/.v.mp4.part/000000.png"]
    old.append(tmp_path / "overlays/.v.mp4.part.mp4")
    kept = [tmp_path / "labels/.new.part", tmp_path / "labels/a.part", tmp_path / "labels/.b.png"]
    for path in (*old, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for path in (*old, old[1].parent, *kept[1:]):
        os.utime(path, (1000, 1000))
    outputs.remove_left(tmp_path)
    assert [path for path in old if path.exists()] == []
    assert all(path.exists() for path in kept)


def open_folder(out, label_set=HELEN, **settings):
    return outputs.open_folder(out, label_set, {"shards_of": None}, SETTINGS | settings)


def test_names_and_label_set_give_the_label_set_back(tmp_path):
    out = open_folder(tmp_path / "out")
    assert label_sets.get(str(out / "names.txt")) == HELEN
    assert label_sets.get(str(out / "label_set.json")) == HELEN
    assert json.loads((out / "predict.json").read_text())["settings"]["network"] == "abc"


def test_a_folder_is_of_one_set_of_classes_whatever_the_settings(tmp_path):
    for flip in (False, True):
        open_folder(tmp_path, flip=flip)
    before = (tmp_path / "names.txt").read_bytes()
    with pytest.raises(UserError, match=r"other classes: .*'helen' there, 'celebamask_hq' here"):
        open_folder(tmp_path, label_sets.CELEBAMASK_HQ)
    with pytest.raises(UserError, match=r"shards or none: shards_of .*; give another --out"):
        outputs.open_folder(tmp_path, HELEN, {"shards_of": 5}, SETTINGS)
    assert (tmp_path / "names.txt").read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"layout": 1}'])
def test_a_damaged_marker_is_said(tmp_path, damage):
    open_folder(tmp_path)
    (tmp_path / "predict.json").write_bytes(damage)
    with pytest.raises(UserError, match=r"predict\.json cannot be read; give another --out"):
        open_folder(tmp_path)


def test_labels_of_somebody_else_are_left_alone(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "mine.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="did not write"):
        open_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(outputs.OutputError, match="file"):
        open_folder(tmp_path / "file" / "out")


def origin_of(photograph="one", settings="s", source="here", overlay="0.5"):
    return Origin(photograph, settings, source, overlay)


def write(tmp_path, origin, name="a.jpg", alpha=0.5):
    output = FileOutput(tmp_path, HELEN, alpha)
    place = output.place(Picture(0, name, name.removesuffix(".jpg")), origin)
    output.write(place, np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.uint8), name)
    return place


def place_of(tmp_path, origin, alpha=0.5):
    return FileOutput(tmp_path, HELEN, alpha).place(Picture(0, "a.jpg", "a"), origin)


def test_finished_means_all_files_made_of_the_content_by_the_settings(tmp_path):
    assert not place_of(tmp_path, origin_of()).is_finished
    write(tmp_path, origin_of())
    assert place_of(tmp_path, origin_of()).is_finished
    # Labels are labels, wherever the photograph lies now.
    assert place_of(tmp_path, origin_of(source="there")).is_finished
    for changed in ({"photograph": "two"}, {"settings": "t"}, {"overlay": "0.7"}):
        assert not place_of(tmp_path, origin_of(**changed)).is_finished
    without = origin_of(overlay="")
    (tmp_path / "overlays" / "a.jpg").unlink()
    assert not place_of(tmp_path, origin_of()).is_finished
    assert place_of(tmp_path, without, None).is_finished
    (tmp_path / "labels" / "a.png").write_bytes(b"damaged")
    assert not place_of(tmp_path, without, None).is_finished


def test_other_settings_replace_and_another_photograph_is_added(tmp_path):
    write(tmp_path, origin_of())
    write(tmp_path, origin_of(settings="t"))
    assert files_below(tmp_path) == ["labels/a.png", "overlays/a.jpg"]
    added = write(tmp_path, origin_of("two", source="there"))
    assert not added.before
    assert place_of(tmp_path, origin_of("two", source="there")).is_finished
    assert place_of(tmp_path, origin_of(settings="t")).is_finished
    assert len(files_below(tmp_path)) == 4
    # Without overlays, that of earlier labels does not stay beside others.
    write(tmp_path, origin_of(overlay=""), alpha=None)
    assert "overlays/a.jpg" not in files_below(tmp_path)
    assert len(files_below(tmp_path)) == 3


def test_replaced_results_are_missing_rather_than_mixed_when_it_stops(tmp_path, monkeypatch):
    write(tmp_path, origin_of())

    def full_disk(path, data):
        if path.suffix == ".png":
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr(outputs.atomic_file, "write_bytes", full_disk)
    with pytest.raises(outputs.OutputError):
        write(tmp_path, origin_of(settings="t"))
    assert not place_of(tmp_path, origin_of()).is_finished


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
