import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from dmlcsr_jax.data import batches as batches_lib
from dmlcsr_jax.data import label_sets, prepare
from dmlcsr_jax.data.augmentation import Augmentation
from dmlcsr_jax.data.builders import Options
from dmlcsr_jax.data.prepared import PreparedSource
from dmlcsr_jax.data.sources import FolderSource
from dmlcsr_jax.data.synthetic import draw_face
from dmlcsr_jax.errors import UserError

_NUM_EXAMPLES = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn faces as a folder, labels at half the images' size."""
    root = tmp_path_factory.mktemp("folder")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for i in range(_NUM_EXAMPLES):
        image, label = draw_face(i, 64)
        image = cv2.resize(image, (128, 128))
        cv2.imwrite(str(root / "images" / f"{i}.jpg"), image[..., ::-1])
        cv2.imwrite(str(root / "labels" / f"{i}.png"), label)
    lines = [f"images/{i}.jpg labels/{i}.png\n" for i in range(_NUM_EXAMPLES)]
    (root / "train_list.txt").write_text("".join(lines))
    (root / "val_list.txt").write_text("".join(lines[:2]))
    return root


@pytest.fixture(scope="module")
def root(folder, tmp_path_factory):
    to = tmp_path_factory.mktemp("prepared")
    options = Options(label_set=label_sets.HELEN)
    place = prepare.prepare("folder", folder, to, options=options, num_workers=1)
    assert place == to / "folder" / "1.0.0"
    return to


def test_examples_are_those_of_the_folder(folder, root):
    expected = FolderSource(folder, "train", label_sets.HELEN)
    source = PreparedSource(str(root), "train", label_sets.HELEN)
    assert len(source) == len(expected) == _NUM_EXAMPLES
    for i in range(len(source)):
        np.testing.assert_array_equal(source[i]["image"], expected[i]["image"])
        np.testing.assert_array_equal(source[i]["label"], expected[i]["label"])
        assert source[i]["name"] == expected[i]["name"]
        assert source[i]["image"].dtype == source[i]["label"].dtype == np.uint8
        assert source[i]["box"].dtype == np.float64


def test_box_is_the_face_without_hair_in_pixels_of_the_image(root):
    for example in (PreparedSource(root, "train")[i] for i in range(3)):
        face = (example["label"] > 0) & (example["label"] < 10)
        # The label has half the image's size: pixel x covers the image's 2x and 2x + 1.
        rows, columns = np.where(face.repeat(2, 0).repeat(2, 1))
        edges = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
        np.testing.assert_allclose(example["box"], edges)


def test_it_travels_to_other_processes_open_or_not(root):
    source = PreparedSource(root, "train")
    closed = pickle.dumps(source)
    expected = source[4]["image"]
    assert len(pickle.dumps(source)) == len(closed)
    np.testing.assert_array_equal(pickle.loads(closed)[4]["image"], expected)


def test_workers_read_the_same_batches(root):
    source = PreparedSource(root, "train")
    batches = {}
    for num_workers in (0, 1):
        iterator = batches_lib.train_batches(
            source,
            label_set=source.label_set,
            image_size=48,
            augmentation=Augmentation(),
            batch_size=4,
            seed=3,
            num_workers=num_workers,
        )
        batches[num_workers] = [next(iterator) for _ in range(3)]
        iterator.close()
    for first, second in zip(batches[0], batches[1], strict=True):
        np.testing.assert_array_equal(first["image"], second["image"])
        np.testing.assert_array_equal(first["label"], second["label"])
    assert batches[0][0]["image"].shape == (4, 48, 48, 3)


def test_reading_needs_neither_tensorflow_nor_jax(root):
    code = (
        "import sys\n"
        "from dmlcsr_jax.data.prepared import PreparedSource\n"
        f"print(PreparedSource({str(root)!r}, 'train')[0]['name'])\n"
        "print(sorted({'tensorflow', 'jax', 'flax', 'torch'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["0", "[]"]


def test_parts_of_a_split(root):
    assert [PreparedSource(root, "train[6:]")[i]["name"] for i in range(3)] == ["6", "7", "8"]
    assert len(PreparedSource(root, "val")) == 2


def test_the_set_says_what_its_labels_mean(root):
    assert PreparedSource(root, "val").label_set == label_sets.HELEN
    with pytest.raises(UserError, match="has the labels of 'helen', not of 'lapa'"):
        PreparedSource(root, "val", label_sets.LAPA)
    assert PreparedSource(root, "val").summary["dataset"] == "folder"


def test_what_is_not_there(root, tmp_path):
    with pytest.raises(UserError, match="no split 'test'; its splits are train, val"):
        PreparedSource(root, "test")
    with pytest.raises(UserError, match="nowhere' does not exist"):
        PreparedSource(tmp_path / "nowhere", "train")
    with pytest.raises(UserError, match="holds no prepared set"):
        PreparedSource(tmp_path, "train")


def test_incomplete_copies_are_refused(root, tmp_path):
    for path in (root / "folder" / "1.0.0").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(PreparedSource(tmp_path, "train")) == _NUM_EXAMPLES
    shard = tmp_path / "folder-train.array_record-00000-of-00001"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"folder-train\.array_record-00000-of-00001"):
        PreparedSource(tmp_path, "train")
    shard.unlink()
    with pytest.raises(UserError, match=r"folder-train\.array_record-00000-of-00001 is missing"):
        PreparedSource(tmp_path, "train")
    (tmp_path / "metadata.json").unlink()
    with pytest.raises(UserError, match=r"metadata\.json cannot be read"):
        PreparedSource(tmp_path, "train")


def test_several_sets_in_one_folder(root, folder, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(root / "folder" / "1.0.0")
    with pytest.raises(UserError, match="holds several prepared sets"):
        PreparedSource(tmp_path, "train")
    assert len(PreparedSource(tmp_path / "a", "train")) == _NUM_EXAMPLES
