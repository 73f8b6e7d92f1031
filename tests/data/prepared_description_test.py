"""What strangers' prepared sets say of themselves runs nothing and is checked."""

import io
import json
import shutil
import sys

import cv2
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from dmlcsr_jax.check_data import check
from dmlcsr_jax.data import label_sets, prepare
from dmlcsr_jax.data.builders import Options
from dmlcsr_jax.data.builders.tfds_private import serializer
from dmlcsr_jax.data.features import features
from dmlcsr_jax.data.prepared import PreparedSource
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.sources import open_source

SHARD = "folder-train.array_record-00000-of-00001"


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for name in "abc":
        (folder / f"images/{name}.png").write_bytes(png(np.full((8, 8, 3), ord(name), np.uint8)))
        (folder / f"labels/{name}.png").write_bytes(png(np.eye(8, dtype=np.uint8)))
    (folder / "train_list.txt").write_text("a\nb\nc\n")
    options = Options(label_set=label_sets.HELEN)
    return prepare.prepare("folder", folder, folder / "to", options=options, num_workers=1)


@pytest.fixture
def place(prepared, tmp_path):
    """A copy of the set to damage."""
    return shutil.copytree(prepared, tmp_path / "set")


def change(path, edit):
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def test_a_class_that_a_file_names_is_never_imported(place, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(
        "import tensorflow_datasets as tfds\nclass Features(tfds.features.FeaturesDict): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    change(place / "features.json", lambda f: f.update(pythonClassName="stranger.Features"))
    for read in (
        lambda: PreparedSource(place, "train"),
        lambda: open_source([place], "all"),
        lambda: open_source([place.parent], "all"),
    ):
        with pytest.raises(UserError, match=r"features\.json declares other features"):
            read()
    assert "stranger" not in sys.modules


def test_nor_one_of_a_part(place):
    def rename(declared):
        declared["featuresDict"]["features"]["name"]["pythonClassName"] = "antigravity.Text"

    change(place / "features.json", rename)
    with pytest.raises(UserError, match=r"features\.json declares other features"):
        PreparedSource(place, "train")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(fileFormat="tfrecord"), "format 'tfrecord'"),
        (lambda d: d.update(name="../secret"), "not in its folder|is missing"),
        (lambda d: d["splits"][0].update(filepathTemplate="{SPLIT:>9999999999}"), "are named by"),
        (lambda d: d["splits"][0].update(filepathTemplate="/etc/passwd"), "are named by"),
        (lambda d: d["splits"][0].update(shardLengths=["-3"]), "no lengths"),
        (lambda d: d["splits"][0].update(shardLengths=[]), "no lengths"),
        (lambda d: d["splits"][0].update(shardLengths=["123456789012"]), "cannot hold 123,456,"),
        (lambda d: d["splits"][0].update(name="///"), "does not describe"),
        (lambda d: d.update(splits=3), "does not describe"),
        (lambda d: d.update(surprise=3), "does not describe"),
    ],
)
def test_impossible_descriptions_are_refused(place, edit, message):
    change(place / "dataset_info.json", edit)
    with pytest.raises(UserError, match=message):
        PreparedSource(place, "train")


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "metadata.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"a": ' * 100000, b"{}"])
def test_damaged_descriptions_are_named(place, name, data):
    (place / name).write_bytes(data)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        PreparedSource(place, "train")


def test_preparing_again_in_a_damaged_place_says_so(prepared, place):
    folder = prepared.parents[2]
    to = place.parent / "to"
    target = to / "folder" / "1.0.0"
    target.parent.mkdir(parents=True)
    place.rename(target)
    (target / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset_info\.json"):
        prepare.prepare("folder", folder, to, options=Options(label_set=label_sets.HELEN))


def damage(place):
    """Changes one byte in the middle record's photograph."""
    shard = place / SHARD
    data = bytearray(shard.read_bytes())
    starts = [i for i in range(len(data)) if data.startswith(b"IDAT", i)]
    data[starts[2] + 8] ^= 1  # a photograph and a label a record
    shard.write_bytes(data)


def test_a_damaged_record_costs_itself_alone(place, tmp_path):
    damage(place)
    source = PreparedSource(place, "train")
    with pytest.raises(UserError, match=r"record 1 cannot be read: .+; copy .* again"):
        source[1]
    with pytest.raises(UserError, match="record 1 cannot be read"):
        source.name(1)
    assert [source[i]["name"] for i in (0, 2)] == ["a", "c"]
    with pytest.raises(UserError, match="1 of 3 examples are bad"):
        check.check_data({"train": source}, label_sets.HELEN, tmp_path / "out")
    assert "record 1 cannot be read" in (tmp_path / "out/bad_files.txt").read_text()


GOOD = {
    "image": png(np.zeros((8, 8, 3), np.uint8)),
    "label": png(np.ones((8, 8), np.uint8)),
    "name": "x",
    "box": np.array([0.0, 0.0, 7.0, 7.0]),
}


def write_one(place, record):
    """Makes one record all that the set holds."""
    (place / SHARD).unlink()
    writer = ArrayRecordWriter(str(place / SHARD), "group_size:1,uncompressed")
    writer.write(record)
    writer.close()
    size = str((place / SHARD).stat().st_size)

    def one(description):
        description["splits"][0].update(shardLengths=["1"], numBytes=size)

    change(place / "dataset_info.json", one)
    return PreparedSource(place, "train")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({}, None),
        ({"label": b"no picture"}, "label of x is not a readable picture"),
        ({"label": png(np.full((8, 8), 99, np.uint8))}, "label 99"),
        ({"label": png(np.ones((7, 8), np.uint8))}, "must have its image's size"),
        ({"image": b"no picture"}, "x is not a readable picture"),
        ({"box": np.array([0.0, np.nan, 7.0, 7.0])}, "face box"),
    ],
)
def test_records_are_no_more_believed_than_files(place, part, message):
    example = GOOD | part
    schema = features()
    encoded = serializer(schema)(example | {k: io.BytesIO(example[k]) for k in ("image", "label")})
    source = write_one(place, encoded)
    if message is None:
        assert source[0]["name"] == "x"
    else:
        with pytest.raises(UserError, match=message):
            source[0]


@pytest.mark.parametrize("record", [b"", b"\x00", b"\xff" * 40, b"\n\x00"])
def test_records_of_something_else_are_named(place, record):
    with pytest.raises(UserError, match="record 0 cannot be read: "):
        write_one(place, record)[0]
