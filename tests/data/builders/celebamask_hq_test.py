"""CelebAMask-HQ, prepared by the command, compared pixel by pixel with the original files."""

import shutil

import cv2
import numpy as np
import pytest
from preparing import assert_same_photograph, error, examples, face, jpeg_pixels, run, save

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.prepared import PreparedSource

# CelebAMask-HQ's own order of painting, from its authors' script.
CELEBA_PARTS = [
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth"),
    *("u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
]


# CelebAMask-HQ: number in CelebA-HQ, index in CelebA, split.
CELEBA_IMAGES = [
    (0, 119613, "train"),
    (7, 162770, "train"),
    (1999, 162771, "val"),
    (2000, 182637, "val"),
    (29999, 182638, "test"),
]


def celeba_masks(index):
    """Overlapping masks of a drawn face: skin below everything, hair over brows, a cloth."""
    label = face(index, 512)[1]
    helen = label_sets.HELEN.classes
    inside = (label > 0) & (label != helen.index("hair"))
    masks = {"skin": inside, "hair": cv2.dilate(np.uint8(label == 10), np.ones((25, 25))) > 0}
    # Helen says the image's left, CelebAMask-HQ the subject's.
    for part, name in {
        "nose": "nose",
        "r_eye": "left_eye",
        "l_eye": "right_eye",
        "r_brow": "left_brow",
        "l_brow": "right_brow",
        "u_lip": "upper_lip",
        "l_lip": "lower_lip",
    }.items():
        masks[part] = cv2.dilate(np.uint8(label == helen.index(name)), np.ones((9, 9))) > 0
    masks["mouth"] = np.isin(label, (7, 8, 9))
    masks["neck"] = np.zeros((512, 512), bool)
    masks["neck"][400:, 150:350] = True
    if index % 2:
        masks["cloth"] = np.zeros((512, 512), bool)
        masks["cloth"][440:] = True
        del masks["l_eye"]
    return masks


@pytest.fixture(scope="module")
def celebamask_hq(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive") / "CelebAMask-HQ"
    lines = ["idx         orig_idx    orig_file  "]
    for index, (number, original, _) in enumerate(CELEBA_IMAGES):
        save(root / "CelebA-HQ-img" / f"{number}.jpg", face(index, 1024)[0], quality=95)
        for part, mask in celeba_masks(index).items():
            path = root / "CelebAMask-HQ-mask-anno" / str(number // 2000)
            rgb = np.repeat(np.uint8(mask * 255)[..., None], 3, axis=2)
            save(path / f"{number:05d}_{part}.png", rgb)
        lines.append(f"{number:<12d}{original:<12d}{original + 1:06d}.jpg ")
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(lines) + "\n")
    (root / "CelebAMask-HQ-pose-anno.txt").write_text("not read\n")
    return root


def test_celebamask_hq(celebamask_hq, tmp_path, capsys):
    # The archive unpacked in a folder is found in there.
    root = run("celebamask_hq", celebamask_hq.parent, tmp_path / "to", "--allow_partial")
    assert "2 train, 2 val, 1 test" in capsys.readouterr().out
    for split in ("train", "val", "test"):
        found = examples(root, split)
        numbers = [(i, n) for i, (n, _, s) in enumerate(CELEBA_IMAGES) if s == split]
        assert list(found) == [str(number) for _, number in numbers]
        for index, number in numbers:
            example = found[str(number)]
            # The last part painted is the one with the greatest label.
            masks = celeba_masks(index)
            painted = [mask * (CELEBA_PARTS.index(part) + 1) for part, mask in masks.items()]
            np.testing.assert_array_equal(example["label"], np.max(painted, axis=0))
            assert example["label"].shape == (512, 512)
            assert example["image"].shape == (1024, 1024, 3)
            assert_same_photograph(
                example["image"], celebamask_hq / "CelebA-HQ-img" / f"{number}.jpg"
            )
            assert PreparedSource(root, split).label_set == label_sets.CELEBAMASK_HQ


def test_celebamask_hq_photographs_are_the_authors_bytes(celebamask_hq, tmp_path):
    import tensorflow_datasets as tfds

    root = run("celebamask_hq", celebamask_hq, tmp_path, "--allow_partial")
    folder = root / "celebamask_hq" / "1.0.0"
    records = tfds.builder_from_directory(folder).as_data_source(
        "test", decoders={"image": tfds.decode.SkipDecoding()}
    )
    expected = (celebamask_hq / "CelebA-HQ-img" / "29999.jpg").read_bytes()
    assert records[0]["image"] == expected


def test_celebamask_hq_reduced_for_training_only(celebamask_hq, tmp_path):
    options = ("--allow_partial", "--max_side=512", "--jpeg_quality=98")
    root = run("celebamask_hq", celebamask_hq, tmp_path, *options)
    example = examples(root, "train")["0"]
    full = jpeg_pixels(celebamask_hq / "CelebA-HQ-img" / "0.jpg").astype(float)
    half = full.reshape(512, 2, 512, 2, 3).mean((1, 3))
    assert example["image"].shape == (512, 512, 3)
    assert np.abs(example["image"] - half).mean() < 2
    # The label is still the authors', not resampled.
    painted = [m * (CELEBA_PARTS.index(p) + 1) for p, m in celeba_masks(0).items()]
    np.testing.assert_array_equal(example["label"], np.max(painted, axis=0))
    assert examples(root, "val")["1999"]["image"].shape == (1024, 1024, 3)
    assert PreparedSource(root, "train").summary["options"]["max_side"] == 512


def test_celebamask_hq_says_what_is_missing(celebamask_hq, tmp_path, capsys):
    message = error(capsys, "celebamask_hq", celebamask_hq, tmp_path / "to")
    assert "2 train images instead of the official 24,183" in message
    assert "--allow_partial" in message

    copy = tmp_path / "copy"
    shutil.copytree(celebamask_hq, copy)
    (copy / "CelebA-HQ-to-CelebA-mapping.txt").unlink()
    assert "no CelebA-HQ-to-CelebA-mapping.txt" in error(
        capsys, "celebamask_hq", copy, tmp_path / "to"
    )
    shutil.copy(celebamask_hq / "CelebA-HQ-to-CelebA-mapping.txt", copy)
    (copy / "CelebA-HQ-img" / "7.jpg").unlink()
    assert "CelebA-HQ-img/7.jpg does not exist" in error(
        capsys, "celebamask_hq", copy, tmp_path / "to"
    )
    for mask in (copy / "CelebAMask-HQ-mask-anno" / "0").glob("00000_*"):
        mask.unlink()
    # Image 0 without a mask and image 7 without a photograph are left out together.
    root = run("celebamask_hq", copy, tmp_path / "to", "--allow_partial")
    assert PreparedSource(root, "val").summary["left_out"] == 2
    with pytest.raises(ValueError, match="no split 'train'"):
        PreparedSource(root, "train")
