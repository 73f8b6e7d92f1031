"""Shards of examples that harm the process that reads them."""

import os

import cv2
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from evil_paths import EvilLabel

from dmlcsr_jax.data.builders.examples import Encoding
from dmlcsr_jax.data.builders.records import LabelFile, Record
from dmlcsr_jax.data.builders.shards import Shard, write_shards
from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.data.synthetic import draw_face
from dmlcsr_jax.errors import UserError


@pytest.fixture
def write(tmp_path):
    """Writes shards of one example each, the label of the last given; returns what there is."""
    image, label = draw_face(0, 48)
    cv2.imwrite(str(tmp_path / "a.jpg"), image)
    cv2.imwrite(str(tmp_path / "a.png"), label)
    good = LabelFile(tmp_path / "a.png")

    def write(*, bad_label=good, bad_image="a.jpg", limits=None):
        places = [(tmp_path / "a.jpg", good)] * 2 + [(tmp_path / bad_image, bad_label)]
        shards = [
            Shard(tmp_path / f"shard{i}", (Record(f"r{i}", *place),), Encoding())
            for i, place in enumerate(places)
        ]
        # One process, so that the good ones are written before.
        write_shards(shards, HELEN, 1, limits or Limits(seconds=30))

    return write


@pytest.mark.parametrize(
    ("action", "seconds", "sentence"),
    [("crash", 30, r"ended the process .*\(SIGSEGV\)"), ("hang", 5, "given up after 5 seconds")],
)
def test_an_example_that_crashes_or_hangs_is_named(write, tmp_path, action, seconds, sentence):
    with pytest.raises(UserError, match=rf"a\.jpg (was )?{sentence}"):
        write(bad_label=EvilLabel(action), limits=Limits(seconds=seconds))
    assert sorted(path.name for path in tmp_path.glob("shard*")) == ["shard0", "shard1"]
    write()
    assert len(ArrayRecordDataSource(str(tmp_path / "shard2"))) == 1


def test_files_of_other_kinds_and_damaged_ones_are_named(write, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    data = cv2.imencode(".jpg", draw_face(1, 256)[0])[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(data[:2000] + data[-2000:])
    for name, sentence in (("pipe.jpg", "named pipe"), ("cut.jpg", "lacks a part of its data")):
        with pytest.raises(UserError, match=rf"{name} .*{sentence}"):
            write(bad_image=name)
    for limits in (Limits(pixels=48 * 48 - 1), Limits(file_bytes=500)):
        (tmp_path / "shard0").unlink()
        with pytest.raises(UserError, match=r"a\.jpg.* more (pixels|bytes) than the limit"):
            write(limits=limits)
        write()
