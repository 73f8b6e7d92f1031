"""LaPa, prepared by the command, compared pixel by pixel with the original files."""

import shutil

import numpy as np
import PIL.Image
import pytest
from preparing import assert_same_photograph, error, examples, face, run, save


@pytest.fixture(scope="module")
def lapa(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive") / "LaPa"
    for split, indices in {"train": (3, 1), "val": (4,), "test": (5,)}.items():
        for index in indices:
            image, label = (x[: 200 - 8 * index] for x in face(index, 240))
            save(root / split / "images" / f"{index}_0.jpg", image, quality=92)
            save(root / split / "labels" / f"{index}_0.png", label)
            points = np.linspace((20.25, 30.5), (200.75, 180.5), 106)
            text = "106\n" + "".join(f"{x:.6f} {y:.6f}\n" for x, y in points)
            path = root / split / "landmarks" / f"{index}_0.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return root


def test_lapa(lapa, tmp_path, capsys):
    assert "instead of the official 18,176" in error(capsys, "lapa", lapa, tmp_path)
    root = run("lapa", lapa, tmp_path, "--allow_partial")
    assert list(examples(root, "train")) == ["1_0", "3_0"]
    for split in ("train", "val", "test"):
        for name, example in examples(root, split).items():
            with PIL.Image.open(lapa / split / "labels" / f"{name}.png") as label:
                np.testing.assert_array_equal(example["label"], np.asarray(label))
            assert_same_photograph(example["image"], lapa / split / "images" / f"{name}.jpg")
            np.testing.assert_allclose(example["box"], [20.25, 30.5, 200.75, 180.5])


def test_lapa_reduced_keeps_label_and_box_on_the_photograph(lapa, tmp_path):
    root = run("lapa", lapa, tmp_path, "--allow_partial", "--max_side=120")
    example = examples(root, "train")["1_0"]
    # 240x192 halved.
    assert example["image"].shape == (96, 120, 3)
    assert example["label"].shape == (96, 120)
    with PIL.Image.open(lapa / "train" / "labels" / "1_0.png") as picture:
        full = np.asarray(picture)
    blocks = full.reshape(96, 2, 120, 2).swapaxes(1, 2).reshape(96, 120, 4)
    assert (blocks == example["label"][..., None]).any(-1).all()
    # Edges at half pixels: (x + 0.5) / 2 - 0.5.
    np.testing.assert_allclose(example["box"], [9.875, 15.0, 100.125, 90.0])


def test_lapa_pair(shared_dir, tmp_path):
    pair = shared_dir / "data" / "lapa_one"
    for kind, suffix in (("images", "jpg"), ("labels", "png")):
        (tmp_path / "LaPa" / "test" / kind).mkdir(parents=True)
        shutil.copy(pair / kind / f"sample.{suffix}", tmp_path / "LaPa" / "test" / kind)
    root = run("lapa", tmp_path / "LaPa", tmp_path / "to", "--allow_partial")
    example = examples(root, "test")["sample"]
    with PIL.Image.open(pair / "labels" / "sample.png") as label:
        np.testing.assert_array_equal(example["label"], np.asarray(label))
    assert_same_photograph(example["image"], pair / "images" / "sample.jpg")
    # Without landmarks: the face's labels, hair not among them.
    rows, columns = np.where((example["label"] > 0) & (example["label"] < 10))
    edges = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
    np.testing.assert_allclose(example["box"], edges)
