"""Helen and Helen*, prepared by the command, compared pixel by pixel with the original files."""

import shutil

import cv2
import numpy as np
import PIL.Image
import pytest
from preparing import assert_same_photograph, error, examples, face, run, save

from dmlcsr_jax.data.prepared import PreparedSource


@pytest.fixture(scope="module")
def helen(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive") / "SmithCVPR2013_dataset_resized"
    rng = np.random.default_rng(0)
    splits = {"exemplars.txt": ("100032540_1", "100040721_1"), "tuning.txt": ("232194_1",)}
    splits["testing.txt"] = ("2371615952_1",)
    index = 0
    for list_name, names in splits.items():
        lines = [f"{number} , {name}\n" for number, name in enumerate(names, 1)]
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / list_name).write_text("".join(lines) + "\n")
        for name in names:
            image, label = (x[:150] for x in face(index, 180))
            save(root / "images" / f"{name}.jpg", image, quality=90)
            hard = label[None] == np.arange(11)[:, None, None]
            soft = np.stack([cv2.GaussianBlur(np.float32(h), (0, 0), 3) for h in hard])
            soft += rng.uniform(0, 0.05, soft.shape)
            for number, probability in enumerate(np.uint8(np.clip(soft, 0, 1) * 255)):
                save(root / "labels" / name / f"{name}_lbl{number:02d}.png", probability)
            index += 1
    return root


def test_helen(helen, tmp_path, capsys):
    assert "2 train images instead of the official 2,000" in error(capsys, "helen", helen, tmp_path)
    root = run("helen", helen, tmp_path, "--allow_partial")
    names = {split: list(examples(root, split)) for split in ("train", "val", "test")}
    assert names == {
        "train": ["100032540_1", "100040721_1"],
        "val": ["232194_1"],
        "test": ["2371615952_1"],
    }
    for split in names:
        for name, example in examples(root, split).items():
            files = [helen / "labels" / name / f"{name}_lbl{i:02d}.png" for i in range(11)]
            soft = np.stack([np.asarray(PIL.Image.open(file)) for file in files])
            np.testing.assert_array_equal(example["label"], soft.argmax(0))
            assert_same_photograph(example["image"], helen / "images" / f"{name}.jpg")


def test_helen_without_a_soft_mask(helen, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(helen, copy)
    (copy / "labels" / "232194_1" / "232194_1_lbl04.png").unlink()
    message = error(capsys, "helen", copy, tmp_path / "to")
    assert "232194_1_lbl04.png does not exist, though tuning.txt names it" in message
    run("helen", copy, tmp_path / "to", "--allow_partial")
    assert len(PreparedSource(tmp_path / "to", "train")) == 2


def test_helen_star(tmp_path):
    source = tmp_path / "helenstar_release"
    for split, index in (("train", 0), ("test", 1), ("test_resize", 2)):
        image, label = face(index, 120 + 30 * index)
        save(source / split / "11564757_2_image.jpg", image)
        save(source / split / "11564757_2_label.png", label)
        save(source / split / "11564757_2_viz.jpg", image)
    root = run("helen_star", source, tmp_path / "to")
    for index, split in enumerate(("train", "test", "test_resize")):
        (example,) = examples(root, split).values()
        np.testing.assert_array_equal(example["label"], face(index, 120 + 30 * index)[1])
        assert_same_photograph(example["image"], source / split / "11564757_2_image.jpg")
