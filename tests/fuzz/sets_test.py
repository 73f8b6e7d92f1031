"""Prepared sets, lists, class names, boxes, configs."""

import json
import math
import shutil

import cv2
import numpy as np
import pytest
from dmlcsr_jax.configs import synthetic
from fuzz.mutation import holds
from fuzz.weights_test import EXAMPLES, JSON
from hypothesis import given
from hypothesis import strategies as st

from dmlcsr_jax import config as config_lib
from dmlcsr_jax.data import label_sets, prepare
from dmlcsr_jax.data.builders import Options
from dmlcsr_jax.data.prepared import PreparedSource
from dmlcsr_jax.data.sources import FolderSource
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.boxes import read_boxes

HELEN = label_sets.HELEN


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number, name in enumerate("abc"):
        (folder / f"images/{name}.png").write_bytes(png(np.full((8, 8, 3), number, np.uint8)))
        (folder / f"labels/{name}.png").write_bytes(png(np.full((8, 8), number, np.uint8)))
    (folder / "train_list.txt").write_text("a\nimages/b.png\nimages/c.png labels/c.png\n")
    return folder


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    to = tmp_path_factory.mktemp("prepared")
    return prepare.prepare("folder", folder, to, options=Options(label_set=HELEN), num_workers=1)


def assert_of_the_set(example):
    number = "abc".index(example["name"])
    np.testing.assert_array_equal(example["image"], np.full((8, 8, 3), number))
    np.testing.assert_array_equal(example["label"], np.full((8, 8), number))


def test_a_changed_byte_of_a_shard_costs_at_most_records(prepared, tmp_path):
    place = shutil.copytree(prepared, tmp_path / "set")
    [shard] = place.glob("*.array_record*")

    def read(data):
        shard.write_bytes(data)
        source = PreparedSource(place, "train")
        found = []
        for index in range(len(source)):
            try:
                found.append(source[index])
            except UserError:
                continue
        return found

    def check(examples):
        for example in examples:
            assert_of_the_set(example)

    holds([shard.read_bytes()], read, check, tmp_path=tmp_path, keeps_length=True)


def test_records(prepared, tmp_path):
    source = PreparedSource(prepared, "train")
    seeds = [bytes(source._records[index]) for index in range(3)]

    def read(data):
        source.__dict__["_records"] = [data]
        return source[0]

    def check(example):
        assert example["image"].dtype == example["label"].dtype == np.uint8
        assert np.isfinite(example["box"]).all()
        assert example["label"].max() < HELEN.num_classes or 255 in example["label"]

    holds(seeds, read, check, tmp_path=tmp_path)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "metadata.json"])
def test_descriptions(prepared, tmp_path, name):
    place = shutil.copytree(prepared, tmp_path / "set")
    seed = (place / name).read_bytes()

    def read(data):
        (place / name).write_bytes(data)
        return PreparedSource(place, "train")

    def check(source):
        assert len(source) == 3 or name == "dataset_info.json"
        if len(source) == 3:
            assert_of_the_set(source[1])

    holds([seed], read, check, tmp_path=tmp_path)


def test_lists(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "set")

    def read(data):
        (place / "train_list.txt").write_bytes(data)
        source = FolderSource(place, "train", HELEN)
        for index in range(len(source)):
            source[index]
        return source

    holds([(place / "train_list.txt").read_bytes()], read, tmp_path=tmp_path)


@pytest.mark.parametrize("suffix", [".txt", ".json"])
def test_class_names(tmp_path, suffix):
    seeds = {
        ".txt": [
            b"# left_is: subject\nbackground\nl_eye\nr_eye\n",
            "a\nb\nc\n".encode("utf-8-sig"),
        ],
        ".json": [json.dumps(HELEN.to_json()).encode()],
    }[suffix]
    path = tmp_path / f"names{suffix}"

    def read(data):
        path.write_bytes(data)
        return label_sets.get(path)

    def check(found):
        assert 2 <= found.num_classes == len(found.palette) <= 255
        assert sorted(found.mirror_table()) == list(range(256))
        assert label_sets.LabelSet.from_json(json.loads(json.dumps(found.to_json()))) == found

    holds(seeds, read, check, tmp_path=tmp_path)


@EXAMPLES
@given(st.sampled_from(sorted(HELEN.to_json())), JSON)
def test_label_sets_with_any_value(field, value):
    try:
        found = label_sets.LabelSet.from_json(HELEN.to_json() | {field: value})
    except UserError:
        return
    assert json.dumps(found.to_json(), allow_nan=False)


def test_boxes(tmp_path):
    path = tmp_path / "boxes.csv"

    def read(data):
        path.write_bytes(data)
        return read_boxes(path)

    def check(boxes):
        for name, found in boxes.items():
            assert isinstance(name, str)
            assert all(box[0] < box[2] and box[1] < box[3] for box in found)
            assert np.isfinite(found).all()

    seeds = [b"name,x0,y0,x1,y1\na.jpg,1,2,3.5,4\n", b'x0,y0,x1,y1,name\n0,0,1,1,"b,c"\n']
    holds(seeds, read, check, tmp_path=tmp_path)


FIELDS = sorted(config_lib._RULES)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@EXAMPLES
@given(
    st.dictionaries(
        st.sampled_from(FIELDS), VALUES | st.lists(VALUES, max_size=4).map(tuple), min_size=1
    )
)
def test_configs(values):
    """As of a config file that gives its fields values of any type."""
    config = synthetic.get_config()
    for name, value in values.items():
        *sections, field = name.split(".")
        section = config
        for part in sections:
            section = section[part]
        with section.ignore_type():
            section[field] = value
    try:
        config_lib.validate(config)
    except UserError:
        return
    for value in config_lib.flatten(config).values():
        for number in value if isinstance(value, tuple | list) else (value,):
            assert not isinstance(number, float) or math.isfinite(number)
