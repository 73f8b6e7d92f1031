import io
import shutil

import numpy as np
import PIL.Image
import pytest
from colour_network import picture
from prediction_files import read_shards, save

from dmlcsr_jax.data import label_sets, prepare
from dmlcsr_jax.data.builders import Options

SPLITS = {"train": range(4), "val": range(4, 8)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A prepared set of photographs of one colour each: `DATASET/VERSION` in the folder."""
    folder = tmp_path_factory.mktemp("folder")
    for split, labels in SPLITS.items():
        for label in labels:
            save(folder / "images" / f"{label}.png", picture(np.full((2, 2), label)))
            (folder / "labels").mkdir(exist_ok=True)
            map_ = PIL.Image.fromarray(np.full((32, 32), label, np.uint8))
            map_.save(folder / "labels" / f"{label}.png")
        (folder / f"{split}_list.txt").write_text("".join(f"{label}\n" for label in labels))
    to = tmp_path_factory.mktemp("prepared")
    prepare.prepare(
        "folder", folder, to, options=Options(label_set=label_sets.HELEN), num_workers=1
    )
    return to


def labels_of(out):
    """Returns what each record of the shards is labelled, by the photograph's name."""
    found = {}
    for data in read_shards(out)[1]:
        with PIL.Image.open(io.BytesIO(data)) as label:
            [found[label.text["name"]]] = np.unique(np.asarray(label))
    return found


@pytest.mark.parametrize("below", ["", "folder", "folder/1.0.0"])
def test_the_folders_that_training_takes(run, root, tmp_path, below):
    status, output, _ = run(root / below, "--split=val", out=tmp_path / "val")
    assert status == 0
    assert "4 labelled" in output
    assert labels_of(tmp_path / "val") == {str(label): label for label in SPLITS["val"]}
    # However it is named, it is the same set.
    _, output, _ = run(root / "folder" / "1.0.0", "--split=val", out=tmp_path / "val")
    assert "4 were labelled before" in output
    assert run(root / below, out=tmp_path / "all")[0] == 0
    assert labels_of(tmp_path / "all") == {str(label): label for label in range(8)}


def test_splits_of_as_many_photographs_are_not_mixed(run, root, tmp_path):
    assert run(root, "--split=val", out=tmp_path / "out")[0] == 0
    status, _, errors = run(root, "--split=train", out=tmp_path / "out")
    assert status == 1
    assert "split ('val' there, 'train' here)" in errors


def test_a_split_that_is_not_there_is_named(run, root, tmp_path):
    status, _, errors = run(root, "--split=test", out=tmp_path / "out")
    assert status == 1
    assert "has no split 'test'; its splits are train, val" in errors


def test_a_shard_alone_says_what_to_give(run, root, tmp_path):
    [shard] = (root / "folder" / "1.0.0").glob("*train.array_record*")
    status, _, errors = run(shard, out=tmp_path / "out")
    assert status == 1
    assert errors == (
        f"error: {shard} is a part of a prepared set; give the folder {shard.parent} instead, and "
        "--split for one of its splits.\n"
    )
    status, _, errors = run(root / "folder", shard, out=tmp_path / "out")
    assert status == 1
    assert "must be the only input" in errors


def test_photographs_beside_a_set_are_parsed(run, root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    save(tmp_path / "data" / "more" / "a.png", picture([[1]]))
    status, output, _ = run(tmp_path / "data", out=tmp_path / "out")
    assert status == 0
    assert "1 labelled" in output
    assert (tmp_path / "out" / "labels" / "more" / "a.png").exists()


def test_a_damaged_record_is_named_and_the_others_go_on(run, root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    [shard] = (tmp_path / "data" / "folder" / "1.0.0").glob("*val.array_record*")
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT")] ^= 1
    shard.write_bytes(data)
    (tmp_path / "boxes.csv").write_text("name,x0,y0,x1,y1\n5,0,0,9,9\n")
    status, output, errors = run(
        tmp_path / "data",
        "--split=val",
        f"--boxes={tmp_path / 'boxes.csv'}",
        out=tmp_path / "out",
    )
    assert status == 1
    assert "3 labelled" in output
    assert "error: record 0 cannot be read: " in errors


def test_boxes_go_by_the_names_in_the_set(run, root, tmp_path):
    (tmp_path / "boxes.csv").write_text("name,x0,y0,x1,y1\n5,0,0,9,9\n5.png,0,0,9,9\n")
    status, output, errors = run(
        root, "--split=val", f"--boxes={tmp_path / 'boxes.csv'}", out=tmp_path / "out"
    )
    assert status == 0
    assert "3 have no box in" in output
    assert "1 of 2 names in" in errors
    assert "match no photograph, first '5.png'" in errors
