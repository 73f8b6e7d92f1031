"""The folder source: what it reads, and one sentence for each thing that can be wrong."""

import pathlib
import pickle

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.configs import default
from dmlcsr_jax.data import label_sets, sources, synthetic
from dmlcsr_jax.errors import UserError

HELEN = label_sets.HELEN


def write_pair(root, stem, index=0, size=64, label_size=None, suffix=".png"):
    image, label = synthetic.draw_face(index, size)
    if label_size:
        label = np.ascontiguousarray(label[:: size // label_size, :: size // label_size])
    for folder in ("images", "labels"):
        (root / folder / stem).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / "images" / f"{stem}{suffix}"), image[..., ::-1])
    cv2.imwrite(str(root / "labels" / f"{stem}.png"), label)
    return image, label


@pytest.fixture
def root(tmp_path):
    for index in range(3):
        write_pair(tmp_path, f"face{index}", index)
    lines = [f"images/face{i}.png labels/face{i}.png" for i in range(3)]
    (tmp_path / "train_list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_reads_the_listed_pairs_in_order(root):
    source = pickle.loads(pickle.dumps(sources.FolderSource(root, "train", HELEN)))
    assert len(source) == 3
    for index in range(3):
        image, label = synthetic.draw_face(index, 64)
        example = source[index]
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["label"], label)
        assert example["name"] == f"face{index}"
        assert source.files(index)[1] == root / "labels" / f"face{index}.png"


def test_several_folders_are_one_source(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_pair(other, "another", 7, size=32)
    (other / "train_list.txt").write_text("another\n")
    config = default.get_config()
    config.data.source, config.data.root = "folder", f"{root}, {other}"
    source = pickle.loads(pickle.dumps(sources.open_source(config, "train", HELEN)))
    names = [source[index]["name"] for index in range(len(source))]
    assert names == ["face0", "face1", "face2", "another"]
    np.testing.assert_array_equal(source[3]["label"], synthetic.draw_face(7, 32)[1])
    for index in range(len(source)):
        np.testing.assert_array_equal(source.label(index), source[index]["label"])


def test_a_missing_one_of_several_folders_is_named(root):
    config = default.get_config()
    config.data.source, config.data.root = "folder", f"{root},{root / 'nowhere'}"
    with pytest.raises(UserError, match="nowhere' does not exist"):
        sources.open_source(config, "train", HELEN)


@pytest.mark.parametrize(
    "line",
    [
        "images/face1.png labels/face1.png",
        "images/face1.png\tlabels/face1.png",
        "images/face1.png",
        "face1.png",
        "face1",
    ],
)
def test_every_form_of_a_line(root, line):
    text = f"\ufeff# a comment\r\n\r\n{line}  \r\n"
    (root / "val_list.txt").write_text(text, encoding="utf-8")
    source = sources.FolderSource(root, "val", HELEN)
    assert len(source) == 1
    assert source[0]["name"] == "face1"
    np.testing.assert_array_equal(source[0]["label"], synthetic.draw_face(1, 64)[1])


def test_images_of_any_suffix_and_in_subfolders(root):
    write_pair(root, "sub/one.two", 4, suffix=".jpg")
    (root / "val_list.txt").write_text("sub/one.two\n")
    example = sources.FolderSource(root, "val", HELEN)[0]
    assert example["name"] == "sub/one.two"
    np.testing.assert_array_equal(example["label"], synthetic.draw_face(4, 64)[1])


def test_label_of_half_the_images_size(root):
    _, label = write_pair(root, "big", 1, size=128, label_size=64)
    (root / "val_list.txt").write_text("big\n")
    example = sources.FolderSource(root, "val", HELEN)[0]
    assert example["image"].shape == (128, 128, 3)
    np.testing.assert_array_equal(example["label"], label)


def test_palette_labels(root):
    label = synthetic.draw_face(2, 64)[1]
    picture = PIL.Image.fromarray(label)
    picture.putpalette([c for colour in HELEN.palette for c in colour])
    picture.save(root / "labels" / "face2.png")
    example = sources.FolderSource(root, "train", HELEN)[2]
    np.testing.assert_array_equal(example["label"], label)


def test_what_is_missing_is_said_on_creation(root, tmp_path):
    with pytest.raises(UserError, match=r"nowhere.*does not exist"):
        sources.FolderSource(tmp_path / "nowhere", "train", HELEN)
    with pytest.raises(UserError, match="does not exist"):
        sources.FolderSource("", "train", HELEN)
    with pytest.raises(UserError, match=r"no list val_list\.txt.*train_list\.txt"):
        sources.FolderSource(root, "val", HELEN)
    (root / "empty_list.txt").write_text("\n# nothing\n")
    with pytest.raises(UserError, match=r"empty_list\.txt lists no example"):
        sources.FolderSource(root, "empty", HELEN)
    (root / "odd_list.txt").write_text("a b c\n")
    with pytest.raises(UserError, match=r"odd_list\.txt line 1.*'a b c'"):
        sources.FolderSource(root, "odd", HELEN)
    (root / "bytes_list.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UserError, match=r"bytes_list\.txt is not a text file"):
        sources.FolderSource(root, "bytes", HELEN)


def test_absent_files_are_named_with_their_line(root):
    lines = ["face0", "images/face1.png labels/gone.png", "lost", "face2"]
    (root / "val_list.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"line 2 names labels/gone\.png.*2 other"):
        sources.FolderSource(root, "val", HELEN)
    (root / "images" / "face1.png").unlink()
    with pytest.raises(UserError, match=r"line 2 names images/face1\.png"):
        sources.FolderSource(root, "train", HELEN)


def test_absent_files_may_wait_until_they_are_read(root):
    (root / "labels" / "face1.png").unlink()
    source = sources.FolderSource(root, "train", HELEN, check_files=False)
    assert source[0]["name"] == "face0"
    with pytest.raises(UserError, match=r"labels/face1\.png cannot be read"):
        source[1]


def test_what_is_broken_is_said_on_reading(root):
    source = sources.FolderSource(root, "train", HELEN)
    path = root / "images" / "face0.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(UserError, match=r"images/face0\.png is cut off"):
        source[0]
    path.write_bytes(whole)
    label = synthetic.draw_face(1, 64)[1]
    label[1, 2] = 12
    cv2.imwrite(str(root / "labels" / "face1.png"), label)
    with pytest.raises(UserError, match=r"labels/face1\.png has label 12 at row 1, column 2"):
        source[1]
    cv2.imwrite(str(root / "labels" / "face2.png"), label[:60] * 0)
    with pytest.raises(UserError, match=r"face2\.png is 64x64.*face2\.png is 64x60"):
        source[2]
    path.unlink()
    with pytest.raises(UserError, match=r"images/face0\.png cannot be read"):
        source[0]


def test_open_source_opens_each_kind_and_names_them(root):
    config = default.get_config()
    config.data.root = str(root)
    config.data.source = "folder"
    folder = sources.open_source(config, "train", HELEN)
    assert isinstance(folder, sources.FolderSource)
    config.data.eval_split = "train"
    assert len(sources.open_source(config, "eval", HELEN)) == len(folder)
    config.data.source = "synthetic"
    config.data.synthetic.eval_examples = 5
    drawn = sources.open_source(config, "eval", HELEN)
    assert len(drawn) == 5
    config.data.source = "tfrecord"
    with pytest.raises(UserError, match="'tfrecord'; the sources are folder, prepared, synthetic"):
        sources.open_source(config, "train", HELEN)
    with pytest.raises(UserError, match="'lapa'"):
        sources.open_synthetic("train", label_sets.LAPA, num_examples=5, size=48)
    with pytest.raises(UserError, match="'dev'; the splits are train, val, test"):
        sources.open_synthetic("dev", HELEN, num_examples=5, size=48)


def test_drawn_splits_share_no_face():
    def faces(split, seed):
        source = sources.open_synthetic(split, HELEN, num_examples=6, size=48, seed=seed)
        return [source[i] for i in range(6)]

    images = [
        example["image"].tobytes()
        for seed in (0, 1, 2)
        for split in ("train", "val", "test")
        for example in faces(split, seed)
    ]
    assert len(set(images)) == len(images)


def test_celebamask_hq_sample_reads(shared_dir):
    root = pathlib.Path(shared_dir) / "data" / "celebamask_hq_mini"
    source = sources.FolderSource(root, "val", label_sets.CELEBAMASK_HQ)
    assert len(source) == 100
    for index in (0, 50, 99):
        example = source[index]
        assert example["image"].shape == (512, 512, 3)
        with PIL.Image.open(source.files(index)[1]) as picture:
            assert picture.mode == "P"
            np.testing.assert_array_equal(example["label"], np.array(picture))


def test_a_list_with_what_no_file_name_has_is_refused(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "train_list.txt").write_bytes(b"a\x00b\n")
    with pytest.raises(UserError, match=r"train_list\.txt line 1 is not understood"):
        sources.FolderSource(tmp_path, "train", HELEN)
