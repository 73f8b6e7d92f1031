"""Each layout as its authors ship it, prepared by the command, compared pixel by pixel."""

import pathlib
import shutil

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import label_sets, prepare
from dmlcsr_jax.data.prepared import PreparedSource
from dmlcsr_jax.data.synthetic import draw_face

# CelebAMask-HQ's own order of painting, from its authors' script.
CELEBA_PARTS = [
    *("skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth"),
    *("u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
]


def run(dataset, source, to, *options):
    """Runs the command and returns the prepared set's folder."""
    prepare.main(
        [f"--dataset={dataset}", f"--source={source}", f"--to={to}", "--num_workers=1", *options]
    )
    return to


def error(capsys, *arguments):
    """Runs the command and returns its one line of error."""
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 1
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def examples(root, split):
    source = PreparedSource(root, split)
    return {example["name"]: example for example in (source[i] for i in range(len(source)))}


def jpeg_pixels(path):
    """Reads a photograph independently: Pillow instead of OpenCV, both on libjpeg."""
    with PIL.Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def assert_same_photograph(image, path):
    """The same JPEG by two decoders; they may differ by rounding."""
    expected = jpeg_pixels(path)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 2


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)


def face(index, size):
    """A drawn face scaled up, for drawing is slow."""
    image, label = draw_face(index, 96)
    return (
        cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC),
        cv2.resize(label, (size, size), interpolation=cv2.INTER_NEAREST_EXACT),
    )


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


def test_face_synthetics(shared_dir, tmp_path):
    source = shared_dir / "data" / "face_synthetics_100"
    root = run("face_synthetics", source, tmp_path)
    found = {split: examples(root, split) for split in ("train", "val", "test")}
    names = [name for split in found.values() for name in split]
    assert sorted(names) == [f"{i:06d}" for i in range(100)]
    # Reading all 100 again by Pillow takes seconds; a tenth of them does.
    for name, example in [item for split in found.values() for item in split.items()][::10]:
        label = np.asarray(PIL.Image.open(source / f"{name}_seg.png"))
        np.testing.assert_array_equal(example["label"], label)
        np.testing.assert_array_equal(example["image"], jpeg_pixels(source / f"{name}.png"))
        points = np.loadtxt(source / f"{name}_ldmks.txt")
        assert points.shape == (70, 2)
        np.testing.assert_allclose(example["box"], [*points.min(0), *points.max(0)])


def test_face_synthetics_split_does_not_depend_on_the_other_images(tmp_path, capsys):
    image, label = face(0, 64)
    label[:5] = 255
    for folder, indices in (("some", range(0, 40, 2)), ("all", range(40))):
        for index in indices:
            save(tmp_path / folder / f"{index:06d}.png", image)
            save(tmp_path / folder / f"{index:06d}_seg.png", label)
        options = ("--allow_partial", "--val_fraction=0.25", "--test_fraction=0.25")
        run("face_synthetics", tmp_path / folder, tmp_path / f"to_{folder}", *options)
    for split in ("train", "val", "test"):
        whole = set(examples(tmp_path / "to_all", split))
        part = set(examples(tmp_path / "to_some", split))
        assert part == {name for name in whole if int(name) % 2 == 0}
        assert len(whole) >= 5
    message = error(capsys, "face_synthetics", tmp_path / "all", tmp_path / "to")
    assert "40 images instead of the official 100, 1,000 or 100,000" in message


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
