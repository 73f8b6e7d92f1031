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
    with pytest.raises(UserError, match="'tfrecord'; the sources are synthetic, folder, prepared"):
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


@pytest.fixture
def unlisted(tmp_path):
    """Forty photographs and labels of the same names, with a space; no list."""
    picture = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    label = cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes()
    for name, data in (("images", picture), ("labels", label)):
        (tmp_path / name).mkdir()
        for index in range(40):
            (tmp_path / name / f"my photo {index}.png").write_bytes(data)
    return tmp_path


def names_of(root, split):
    source = sources.FolderSource(root, split, HELEN)
    return {source[index]["name"] for index in range(len(source))}


def test_without_lists_equal_names_are_pairs_and_a_tenth_is_kept_to_evaluate(unlisted, caplog):
    caplog.set_level("INFO")
    train, val = names_of(unlisted, "train"), names_of(unlisted, "val")
    assert train | val == {f"my photo {index}" for index in range(40)}
    assert not train & val
    assert 1 <= len(val) <= 8
    assert f"{len(val)} of its 40 photographs are 'val'" in caplog.text
    assert names_of(unlisted, "test") == val
    # What is added or lost changes no other's split.
    (unlisted / "images" / "my photo 0.png").rename(unlisted / "images" / "new.png")
    assert names_of(unlisted, "train") == train - {"my photo 0"}
    (unlisted / "images" / "folder").mkdir()
    caplog.clear()
    names_of(unlisted, "train")
    assert "2 files" in caplog.text
    assert "such as folder" in caplog.text


def test_of_two_photographs_each_split_has_one(tmp_path):
    for number in range(2):
        write_pair(tmp_path, f"a{number}", size=32)
    assert len(names_of(tmp_path, "train")) == len(names_of(tmp_path, "val")) == 1


def test_names_that_two_photographs_have_are_refused(unlisted):
    (unlisted / "images" / "my photo 3.JPG").touch()
    with pytest.raises(UserError, match=r"both my photo 3\.JPG and my photo 3\.png"):
        sources.FolderSource(unlisted, "train", HELEN)


def test_names_that_are_not_alike_are_refused(unlisted):
    for path in (unlisted / "labels").iterdir():
        path.rename(path.with_stem(f"{path.stem}_mask"))
    with pytest.raises(UserError, match=r"no list, and 0 of the 40 .*name them alike"):
        sources.FolderSource(unlisted, "train", HELEN)


@pytest.mark.parametrize(
    "line",
    [
        "images/my photo 7.png labels/my photo 7.png",
        "images/my photo 7.png\tlabels/my photo 7.png",
        "images/my photo 7.png",
        "my photo 7",
    ],
)
def test_names_in_lists_may_hold_spaces(unlisted, line):
    (unlisted / "train_list.txt").write_text(f"{line}\n")
    source = sources.FolderSource(unlisted, "train", HELEN)
    assert source.files(0) == (
        unlisted / "images" / "my photo 7.png",
        unlisted / "labels" / "my photo 7.png",
    )


def test_a_folders_own_label_names_are_found(unlisted):
    config = default.get_config()
    config.data.source, config.data.root = "folder", str(unlisted)
    with pytest.raises(UserError, match=r"label_set is empty and .* has no label_names\.txt"):
        sources.label_set_of(config.data)
    (unlisted / "label_names.txt").write_text("background\nfreckles\n")
    assert sources.label_set_of(config.data).classes == ("background", "freckles")
    other = unlisted / "other"
    other.mkdir()
    (other / "label_names.txt").write_text("background\nmoles\n")
    config.data.root = f"{unlisted}, {other}"
    with pytest.raises(UserError, match="other differs"):
        sources.label_set_of(config.data)
    config.data.label_set = "helen"
    assert sources.label_set_of(config.data) == HELEN
