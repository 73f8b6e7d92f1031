"""A folder, prepared by the command, compared pixel by pixel with the original files."""

import pathlib

import numpy as np
import PIL.Image
from preparing import assert_same_photograph, error, examples, face, run, save

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.prepared import PreparedSource


def test_folder_with_palette_labels(shared_dir, tmp_path):
    mini = shared_dir / "data" / "celebamask_hq_mini"
    source = tmp_path / "mini"
    source.mkdir()
    for name in ("images", "labels", "label_names.txt"):
        (source / name).symlink_to(mini / name)
    for split in ("train", "val"):
        lines = (mini / f"{split}_list.txt").read_text().splitlines()[:5]
        (source / f"{split}_list.txt").write_text("\n".join(lines))
    root = run("folder", source, tmp_path / "to")
    assert PreparedSource(root, "train").label_set == label_sets.CELEBAMASK_HQ
    for split in ("train", "val"):
        for name, example in examples(root, split).items():
            with PIL.Image.open(mini / "labels" / f"{name}.png") as label:
                assert label.mode == "P"
                np.testing.assert_array_equal(example["label"], np.asarray(label))
            assert_same_photograph(example["image"], mini / "images" / f"{name}.jpg")


def test_folder_needs_to_know_its_labels(tmp_path, capsys):
    image, label = face(0, 64)
    save(tmp_path / "mine" / "images" / "a.jpg", image)
    save(tmp_path / "mine" / "labels" / "a.png", label)
    (tmp_path / "mine" / "train_list.txt").write_text("images/a.jpg labels/a.png\n")
    assert "label_names.txt" in error(capsys, "folder", tmp_path / "mine", tmp_path / "to")
    run("folder", tmp_path / "mine", tmp_path / "to", "--label_set=helen")
    np.testing.assert_array_equal(examples(tmp_path / "to", "train")["a"]["label"], label)
    (tmp_path / "mine" / "train_list.txt").unlink()
    assert "no list" in error(
        capsys, "folder", tmp_path / "mine", pathlib.Path(tmp_path / "to2"), "--label_set=helen"
    )
