"""The data check on folders whose faults are known."""

import json

import cv2
import numpy as np
import PIL.Image
import pytest
from dmlcsr_jax.configs import celebamask_hq_small, default
from evil_paths import EvilSource

from dmlcsr_jax.check_data import check
from dmlcsr_jax.check_data.findings import findings
from dmlcsr_jax.data import label_sets, synthetic
from dmlcsr_jax.data.sources import FolderSource
from dmlcsr_jax.errors import UserError

HELEN = label_sets.HELEN


def write_set(root, split, indices, swapped=(), size=64):
    for folder in ("images", "labels"):
        (root / folder).mkdir(exist_ok=True)
    for index in indices:
        image, label = synthetic.draw_face(index, size)
        if index in swapped:
            label = HELEN.mirror_table()[label]
        cv2.imwrite(str(root / "images" / f"{index}.png"), image[..., ::-1])
        cv2.imwrite(str(root / "labels" / f"{index}.png"), label)
    lines = [f"images/{index}.png labels/{index}.png\n" for index in indices]
    (root / f"{split}_list.txt").write_text("".join(lines))


def open_set(root, *splits):
    return {split: FolderSource(root, split, HELEN, check_files=False) for split in splits}


def pair(report, left):
    return next(p for p in report["left_right"] if p["left"] == left)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_clean_set(tmp_path, capsys, num_workers):
    write_set(tmp_path, "train", range(10))
    write_set(tmp_path, "val", range(10, 14), size=48)
    out = tmp_path / "out"
    report = check.check_data(
        open_set(tmp_path, "train", "val"),
        HELEN,
        out,
        official_counts={"train": 10, "val": 5},
        num_workers=num_workers,
    )
    assert json.loads((out / "check_data.json").read_text()) == report
    labels = np.stack([synthetic.draw_face(i, 64)[1] for i in range(10)])
    for entry in report["classes"]:
        here = labels == entry["label"]
        assert entry["name"] == HELEN.classes[entry["label"]]
        assert entry["pixels"]["train"] == pytest.approx(here.mean())
        assert entry["images"]["train"] == pytest.approx(here.any((1, 2)).mean())
    assert report["splits"]["train"]["sizes"] == {"64x64 image, 64x64 label": 10}
    assert report["splits"]["val"]["sizes"] == {"48x48 image, 48x48 label": 4}
    assert pair(report, "left_eye")["plausible"] == 1
    assert [w for w in report["warnings"] if "official" in w] == [
        "val has 4 examples instead of the official 5."
    ]
    assert not any("left_eye lies" in w for w in report["warnings"])
    with PIL.Image.open(out / "check_data.png") as sheet:
        assert sheet.width > 1000
    printed = capsys.readouterr().out
    assert "face_skin" in printed
    assert "warning: val has 4 examples" in printed
    assert not (out / "bad_files.txt").exists()


def test_every_bad_file_is_listed(tmp_path):
    write_set(tmp_path, "train", range(6))
    images, labels = tmp_path / "images", tmp_path / "labels"
    (images / "0.png").unlink()
    (images / "2.png").write_bytes((images / "2.png").read_bytes()[:-20])
    label = synthetic.draw_face(3, 64)[1]
    label[0, 0] = 99
    cv2.imwrite(str(labels / "3.png"), label)
    cv2.imwrite(str(labels / "5.png"), label[:50] * 0)
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"4 of 6 examples are bad.*bad_files\.txt"):
        check.check_data(open_set(tmp_path, "train"), HELEN, out)
    sentences = (out / "bad_files.txt").read_text().splitlines()
    assert len(sentences) == 4
    for sentence, name in zip(sentences, ("0", "2", "3", "5"), strict=True):
        assert f"{name}.png" in sentence
    bad = json.loads((out / "check_data.json").read_text())["splits"]["train"]["bad"]
    assert [entry["index"] for entry in bad] == [0, 2, 3, 5]
    assert [entry["error"] for entry in bad] == sentences
    write_set(tmp_path, "train", range(6))
    check.check_data(open_set(tmp_path, "train"), HELEN, out)
    assert not (out / "bad_files.txt").exists()


def test_nothing_but_bad_files_still_ends_in_a_report(tmp_path):
    write_set(tmp_path, "train", [0])
    (tmp_path / "labels" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match="1 of 1 examples"):
        check.check_data(open_set(tmp_path, "train"), HELEN, tmp_path / "out")
    assert (tmp_path / "out" / "bad_files.txt").exists()


def test_exchanged_left_and_right_are_noticed(tmp_path):
    write_set(tmp_path, "some", range(10), swapped=(4, 7))
    report = check.check_data(open_set(tmp_path, "some"), HELEN, tmp_path / "out")
    found = pair(report, "left_eye")
    assert set(found["implausible"]) == {"some/4", "some/7"}
    assert found["plausible"] == pytest.approx(1 - 2 / found["images"])
    assert any("left_eye" in w and "some images" in w for w in report["warnings"])
    write_set(tmp_path, "all", range(10), swapped=range(10))
    report = check.check_data(open_set(tmp_path, "all"), HELEN, tmp_path / "out")
    assert pair(report, "left_brow")["plausible"] == 0
    assert any("left_brow" in w and "correct left_is" in w for w in report["warnings"])


def test_the_subjects_left_is_image_right(tmp_path):
    class Subject:
        """Two blobs, the one called left at the image's right."""

        def __len__(self):
            return 2

        def __getitem__(self, index):
            label = np.zeros((32, 32), np.uint8)
            label[10:14, 20:24] = 4
            label[10:14, 6:10] = 5
            image = np.full((64, 64, 3), index, np.uint8)
            return {"image": image, "label": label, "name": str(index)}

    def eyes(label_set, out_dir):
        report = check.check_data({"train": Subject()}, label_set, out_dir)
        return next(p for p in report["left_right"] if p["images"])

    celeb = eyes(label_sets.CELEBAMASK_HQ, tmp_path)
    assert (celeb["left"], celeb["plausible"]) == ("l_eye", 1)
    lapa = eyes(label_sets.LAPA, tmp_path)
    assert (lapa["left"], lapa["plausible"]) == ("left_eye", 0)


def test_pairs_named_right_first_are_turned_round(tmp_path):
    class Synthetics:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            label = np.full((32, 32), 255, np.uint8)
            label[10:14, 20:24] = 3
            label[10:14, 6:10] = 4
            label[16:, :] = 1
            return {"image": np.zeros((32, 32, 3), np.uint8), "label": label, "name": "0"}

    report = check.check_data({"train": Synthetics()}, label_sets.FACE_SYNTHETICS, tmp_path)
    assert label_sets.FACE_SYNTHETICS.classes[3] == "right_eye"
    assert pair(report, "left_eye")["plausible"] == 1
    ignored = 32 * 16 - 32
    assert report["ignored"]["train"] == pytest.approx(ignored / 1024)
    skin = report["classes"][1]
    assert skin["pixels"]["train"] == pytest.approx(16 * 32 / (1024 - ignored))


def test_the_same_photograph_in_two_splits_is_noticed(tmp_path):
    write_set(tmp_path, "train", range(4))
    write_set(tmp_path, "val", [2, 8])
    report = check.check_data(open_set(tmp_path, "train", "val"), HELEN, tmp_path / "out")
    assert report["same_image"] == [["train/2", "val/2"]]
    assert any("train/2, val/2" in warning for warning in report["warnings"])


def test_absent_classes_are_named(tmp_path):
    write_set(tmp_path, "train", range(2))
    for index in range(2):
        label = synthetic.draw_face(index, 64)[1]
        label[label == 6] = 1
        cv2.imwrite(str(tmp_path / "labels" / f"{index}.png"), label)
    report = check.check_data(open_set(tmp_path, "train"), HELEN, tmp_path / "out")
    assert any(w.startswith("train has no pixel of nose") for w in report["warnings"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    write_set(tmp_path, "train", range(2))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the folder .*file"):
        check.check_data(open_set(tmp_path, "train"), HELEN, tmp_path / "file")


def test_a_report_that_cannot_be_written_is_said_before_the_work(tmp_path):
    class Unread:
        def __len__(self):
            return 3

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder"):
        check.check_data({"train": Unread()}, HELEN, tmp_path / "file" / "out")


def test_an_example_that_crashes_is_a_finding_and_the_others_are_read():
    drawn = synthetic.SyntheticSource(20, 48)
    sources = {"train": EvilSource(drawn, 5, "crash"), "val": drawn}
    found = list(findings(sources, HELEN, num_workers=2))
    assert [(f.split, f.index) for f in found] == [(s, i) for s in sources for i in range(20)]
    assert [(f.split, f.index) for f in found if f.error] == [("train", 5)]
    assert "train example 5 ended the process that decoded it (SIGSEGV)" in found[5].error
    for index in range(20):
        np.testing.assert_array_equal(
            found[20 + index].counts, np.bincount(drawn[index]["label"].ravel(), minlength=256)
        )


def test_further_sources_are_checked_by_their_own_labels(tmp_path):
    write_set(tmp_path, "train", range(2))
    write_set(tmp_path, "val", range(2, 3))
    hair = tmp_path / "hair"
    hair.mkdir()
    write_set(hair, "train", range(2))
    config = celebamask_hq_small.get_config()
    config.data.root, config.data.label_set = str(tmp_path), "helen"
    config.data.sources.hair = default.source(0.5)
    config.data.sources.hair.root, config.data.sources.hair.label_set = str(hair), "figaro"
    with pytest.raises(UserError, match="2 of 2 examples are bad"):
        check.check_config_data(config, tmp_path / "run")
    for name in ("0", "1"):
        label = cv2.imread(str(hair / f"labels/{name}.png"), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(hair / f"labels/{name}.png"), np.uint8(label == 10))
    check.check_config_data(config, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "check_data" / "hair" / "check_data.json").read_text())
    assert report["label_set"] == "figaro"
    assert report["splits"]["train"]["examples"] == 2
