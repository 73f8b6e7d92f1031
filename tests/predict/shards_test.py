import io
import os

import numpy as np
import PIL.Image
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from colour_network import picture
from prediction_files import encoded, read_shards, save, write_records

from dmlcsr_jax.predict import shards

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]


def test_shards_hold_every_record_once_in_order(tmp_path):
    records = [bytes([i]) * i for i in range(11)]
    output = shards.ShardOutput(tmp_path, num_pictures=11, records_per_shard=4)
    assert output.num_shards == 3
    assert [output.length(shard) for shard in range(3)] == [4, 4, 3]
    for shard in (2, 0, 1):
        output.write(shard, [r for i, r in enumerate(records) if output.shard_of(i) == shard])
    files = sorted((tmp_path / "labels").iterdir())
    assert files[2].name == "labels.array_record-00002-of-00003"
    read = ArrayRecordDataSource([str(file) for file in files])
    assert [read[i] for i in range(len(read))] == records


def test_what_could_not_be_read_stays_failed_until_its_shard_is_removed(run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for i in range(5):
        save(photos / f"{i}.png", picture(np.full((2, 2), i)))
    (photos / "1.png").write_bytes(b"broken")
    options = ("--shards", "--records_per_shard=3")
    assert run(photos, *options, out=out)[0] == 1
    save(photos / "1.png", picture(np.full((2, 2), 7)))
    for _ in range(2):
        status, output, errors = run(photos, *options, out=out)
        assert status == 1
        assert "0 labelled" in output
        assert "4 were labelled before, 1 failed" in output
        [sentence] = [line for line in errors.splitlines() if line.startswith("error: ")]
        shard = out / "labels" / "labels.array_record-00000-of-00002"
        assert sentence == (
            f"error: 1.png could not be read when {shard} was written; remove that shard to try "
            "again."
        )
        assert (out / "failed.txt").read_text() == sentence.removeprefix("error: ") + "\n"
    shard.unlink()
    status, output, _ = run(photos, *options, out=out)
    assert status == 0
    assert "3 labelled" in output
    assert "2 were labelled before, 0 failed" in output
    assert not (out / "failed.txt").exists()
    with PIL.Image.open(io.BytesIO(read_shards(out)[1][1])) as label:
        assert set(np.unique(np.asarray(label))) == {7}


@pytest.mark.parametrize("damage", ["cut off", "changed"])
def test_a_damaged_shard_is_named(run, tmp_path, damage):
    photos, out = tmp_path / "photos", tmp_path / "out"
    save(photos / "a.png", picture(CELLS))
    assert run(photos, "--shards", out=out)[0] == 0
    [shard] = (out / "labels").iterdir()
    data = bytearray(shard.read_bytes())
    place = data.index(b"IDAT")
    data[place] ^= 1
    shard.write_bytes(data[:place] if damage == "cut off" else data)
    status, _, errors = run(photos, "--shards", out=out)
    assert status == 1
    [sentence] = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert sentence.startswith(f"error: {shard} cannot be read: ")
    assert sentence.endswith("; remove it to have it made again.")
    shard.unlink()
    assert run(photos, "--shards", out=out)[0] == 0


def test_shards_of_a_folder_refuse_another_listing(run, tmp_path):
    for i in range(5):
        save(tmp_path / "photos" / f"{i}.png", picture(np.full((2, 2), i)))
    options = ("--shards", "--records_per_shard=2")
    assert run(tmp_path / "photos", *options, out=tmp_path / "out")[0] == 0
    _, labels = read_shards(tmp_path / "out")
    for i, data in enumerate(labels):
        with PIL.Image.open(io.BytesIO(data)) as label:
            assert label.text["name"] == f"{i}.png"
            assert set(np.unique(np.asarray(label))) == {i}
    save(tmp_path / "photos" / "00.png", picture(CELLS))
    status, _, errors = run(tmp_path / "photos", *options, out=tmp_path / "out")
    assert status == 1
    assert "pictures" in errors


def test_a_shard_is_made_anew_where_a_photograph_of_it_was_replaced(run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for i in range(4):
        save(photos / f"{i}.png", picture(np.full((2, 2), i)))
    options = ("--shards", "--records_per_shard=2")
    assert run(photos, *options, out=out)[0] == 0
    assert "0 labelled" in run(photos, *options, out=out)[1]
    save(photos / "1.png", picture(np.full((3, 3), 7)))
    os.utime(photos / "1.png", (1000, 1000))
    assert "2 labelled" in run(photos, *options, out=out)[1]
    with PIL.Image.open(io.BytesIO(read_shards(out)[1][1])) as label:
        assert set(np.unique(np.asarray(label))) == {7}
    # Records are known by their bytes too.
    write_records(tmp_path / "x.array_record", [encoded(i) for i in range(4)])
    assert "4 labelled" in run(tmp_path / "x.array_record", *options[1:], out=tmp_path / "o")[1]
    write_records(tmp_path / "x.array_record", [encoded(i) for i in (0, 1, 2, 9)])
    assert "2 labelled" in run(tmp_path / "x.array_record", *options[1:], out=tmp_path / "o")[1]
    with PIL.Image.open(io.BytesIO(read_shards(tmp_path / "o")[1][3])) as label:
        assert set(np.unique(np.asarray(label))) == {9}
