import io

import cv2
import numpy as np
import PIL.Image
import pytest
from prediction_files import encoded, read_shards, write_records

from dmlcsr_jax.data.decode import decode_image
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.sources import RecordFiles, record_files


def png(value):
    return cv2.imencode(".png", np.full((4, 5, 3), value, np.uint8))[1].tobytes()


def test_records_of_several_files_follow_each_other(tmp_path):
    write_records(tmp_path / "b.array_record-00001-of-00002", [png(3), b"broken"])
    write_records(tmp_path / "b.array_record-00000-of-00002", [png(0), png(1), png(2)])
    assert record_files(tmp_path)
    source = RecordFiles(tmp_path)
    assert len(source) == 5
    items = list(source)
    assert [picture.index for picture in items] == list(range(5))
    for value in range(4):
        encoded_ = source.read(items[value])
        assert (decode_image(encoded_.source, encoded_.title) == value).all()
        assert encoded_.name == items[value].name
    assert items[3].name == "b.array_record-00001-of-00002:0"
    broken = source.read(items[4])
    with pytest.raises(UserError, match="00001-of-00002:1"):
        decode_image(broken.source, broken.title)


def test_a_folder_of_photographs_is_not_taken_for_records(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert not record_files(tmp_path)
    assert not record_files(tmp_path / "a.jpg")
    assert record_files(tmp_path / "x.array_record")


def test_damaged_array_record_is_named(tmp_path):
    (tmp_path / "x.array_record").write_bytes(b"x")
    with pytest.raises(UserError, match=r"x\.array_record"):
        RecordFiles(tmp_path / "x.array_record")


def test_array_record_gives_shards_in_the_order_of_its_records(run, tmp_path):
    records = [encoded(i % 11) for i in range(25)]
    records[13] = b"broken"
    (tmp_path / "in").mkdir()
    write_records(tmp_path / "in" / "x.array_record-00000-of-00002", records[:10])
    write_records(tmp_path / "in" / "x.array_record-00001-of-00002", records[10:])
    status, output, errors = run(tmp_path / "in", "--records_per_shard=8", out=tmp_path / "out")
    assert status == 1
    assert "record x.array_record-00001-of-00002:3" in errors
    assert "24 labelled" in output
    files, labels = read_shards(tmp_path / "out")
    assert [file.name for file in files] == [
        f"labels.array_record-{i:05d}-of-00004" for i in range(4)
    ]
    assert len(labels) == 25
    for i, data in enumerate(labels):
        if i == 13:
            assert data == b""
            continue
        with PIL.Image.open(io.BytesIO(data)) as label:
            np.testing.assert_array_equal(np.asarray(label), np.full((32, 32), i % 11))
            place = f"00000-of-00002:{i}" if i < 10 else f"00001-of-00002:{i - 10}"
            assert label.text["name"] == f"x.array_record-{place}"
    # A shard that is missing is made again, the others are not.
    files[1].unlink()
    before = files[2].stat().st_mtime_ns
    _, output, _ = run(tmp_path / "in", "--records_per_shard=8", out=tmp_path / "out")
    assert "7 labelled" in output
    assert "17 were labelled before" in output
    assert files[2].stat().st_mtime_ns == before
    assert read_shards(tmp_path / "out")[1] == labels
