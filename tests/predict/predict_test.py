import collections
import contextlib
import io
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import colour_network
import cv2
import numpy as np
import PIL.Image
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from colour_network import interior, picture, truth

from dmlcsr_jax import atomic_file
from dmlcsr_jax.predict import __main__ as predict

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command line on the colour network: returns exit status, stdout, stderr."""
    colour_network.install(monkeypatch.setattr)

    def run(*arguments, out, checkpoint="any"):
        status = 0
        try:
            predict.main([*map(str, arguments), f"--checkpoint={checkpoint}", f"--out={out}"])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def read_label(path):
    with PIL.Image.open(path) as label:
        assert label.mode == "P"
        return np.asarray(label)


def files_below(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_folder_gives_label_maps_and_overlays_at_the_original_size(run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    images = {"a.png": picture(CELLS, 16), "sub/b.jpg": picture(CELLS, 33)}
    for name, image in images.items():
        save(photos / name, image)
    status, output, _ = run(photos, "--overlay_alpha=1", out=out)
    assert status == 0
    assert "11 classes of helen; left and right are the image's" in output
    assert re.search(r"2 labelled in .* \(.* images/s\), 0 were labelled before, 0 failed", output)
    assert files_below(out) == [
        "label_set.json",
        "labels/a.png",
        "labels/sub/b.png",
        "names.txt",
        "overlays/a.jpg",
        "overlays/sub/b.jpg",
        "predict.json",
    ]
    palette = np.array(colour_network.LABEL_SET.palette)
    for stem, cell in (("a", 16), ("sub/b", 33)):
        label = read_label(out / "labels" / f"{stem}.png")
        inside = interior(CELLS, cell, margin=cell // 3)
        np.testing.assert_array_equal(label[inside], truth(CELLS, cell)[inside])
        overlay = cv2.imread(str(out / "overlays" / f"{stem}.jpg"))[..., ::-1].astype(int)
        assert overlay.shape[:2] == label.shape
        assert np.median(np.abs(overlay - palette[label])[inside]) < 10


def test_unreadable_files_are_named_and_the_others_go_on(run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for i in range(12):
        save(photos / f"{i:02d}.jpg", picture(np.full((2, 2), i % 11)))
    whole = (photos / "03.jpg").read_bytes()
    (photos / "03.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "07.jpg").write_bytes(b"")
    status, output, errors = run(photos, "--no_overlay", out=out)
    assert status == 1
    assert "10 labelled" in output
    assert "2 failed" in output
    sentences = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 2
    assert "03.jpg is cut off or damaged" in sentences[0]
    assert "07.jpg is empty" in sentences[1]
    assert (out / "failed.txt").read_text().count("\n") == 2
    assert len(files_below(out / "labels")) == 10
    # Once they are mended, only they are missing.
    for name in ("03.jpg", "07.jpg"):
        save(photos / name, picture(np.full((2, 2), 5)))
    status, output, _ = run(photos, "--no_overlay", out=out)
    assert status == 0
    assert "2 labelled" in output
    assert "10 were labelled before" in output
    assert not (out / "failed.txt").exists()


def test_names_that_clash_get_a_file_each(run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    names = {"a.jpg": 1, "a.png": 2, "a.png.jpg": 3, "one/a.jpg": 4, "two/a.jpg": 5}
    for name, label in names.items():
        save(photos / name, picture(np.full((2, 2), label)))
    assert run(photos, "--no_overlay", out=out)[0] == 0
    found = {name: read_label(out / "labels" / name) for name in files_below(out / "labels")}
    assert {name: set(np.unique(label)) for name, label in found.items()} == {
        "a.jpg.png": {1},
        "a.png.png": {2},
        "a.png.jpg.png": {3},
        "one/a.png": {4},
        "two/a.png": {5},
    }


def test_any_file_name_will_do(run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    names = [b"\xff\xfe.png", "人 脸.png".encode(), b'a b\'s "c";.png', b"new\nline.png"]
    for i, name in enumerate(names):
        save(photos / "x.png", picture(np.full((2, 2), i)))
        (photos / "x.png").rename(photos / os.fsdecode(name))
    (photos / os.fsdecode(b"\xfd.png")).write_bytes(b"")
    status, output, errors = run(photos, "--no_overlay", out=out)
    assert status == 1
    assert "4 labelled" in output
    assert "?.png is empty" in errors
    for i, name in enumerate(names):
        assert set(np.unique(read_label(out / "labels" / os.fsdecode(name)))) == {i}


def test_output_in_the_folder_of_the_photographs_is_never_input(run, tmp_path):
    save(tmp_path / "a.png", picture(CELLS))
    save(tmp_path / "b.png", picture(CELLS))
    before = (tmp_path / "a.png").read_bytes()
    for expected in ("2 labelled", "0 labelled"):
        status, output, _ = run(tmp_path, out=tmp_path)
        assert status == 0
        assert expected in output
    assert (tmp_path / "a.png").read_bytes() == before
    assert files_below(tmp_path / "labels") == ["a.png", "b.png"]
    # As input, what was written is refused instead of overwritten.
    status, _, errors = run(tmp_path / "overlays", out=tmp_path)
    assert status == 1
    assert "written by prediction" in errors


def test_labels_that_are_somebody_elses_are_not_overwritten(run, tmp_path):
    save(tmp_path / "images" / "a.png", picture(CELLS))
    save(tmp_path / "labels" / "a.png", picture(CELLS))
    before = (tmp_path / "labels" / "a.png").read_bytes()
    status, _, errors = run(tmp_path / "images", out=tmp_path)
    assert status == 1
    assert "prediction did not write" in errors
    assert (tmp_path / "labels" / "a.png").read_bytes() == before


def test_only_what_is_missing_or_older_is_made_again(run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for name in "abc":
        save(photos / f"{name}.png", picture(CELLS))
    assert "3 labelled" in run(photos, out=out)[1]
    (out / "overlays" / "a.jpg").unlink()
    now = time.time()
    os.utime(photos / "b.png", (now + 100, now + 100))
    before = (out / "labels" / "c.png").stat().st_mtime_ns
    assert "2 labelled" in run(photos, out=out)[1]
    assert (out / "labels" / "c.png").stat().st_mtime_ns == before
    assert (out / "overlays" / "a.jpg").exists()


def test_outputs_of_another_network_or_other_photographs_are_not_mixed(run, tmp_path, monkeypatch):
    for name in ("one", "two"):
        save(tmp_path / name / "a.png", picture(CELLS))
    assert run(tmp_path / "one", out=tmp_path / "out")[0] == 0
    status, _, errors = run(tmp_path / "two", out=tmp_path / "out")
    assert status == 1
    assert "inputs_below" in errors
    colour_network.install(monkeypatch.setattr, seed=1)
    status, _, errors = run(tmp_path / "one", out=tmp_path / "out")
    assert status == 1
    assert "network" in errors
    assert "give another --out" in errors


def test_boxes_are_parsed_in_crops(run, tmp_path):
    cells = np.full((12, 16), 1)
    cells[4:7, 6:10] = CELLS
    for name in ("sub/a.png", "b.png"):
        save(tmp_path / "photos" / name, picture(cells, 4))
    (tmp_path / "boxes.csv").write_text("name,x0,y0,x1,y1\nsub/a.png,24,16,40,28\n")
    status, output, _ = run(
        tmp_path / "photos",
        f"--boxes={tmp_path / 'boxes.csv'}",
        "--margin=0.25",
        "--no_overlay",
        out=tmp_path / "out",
    )
    assert status == 0
    assert "1 have no box in" in output
    label = read_label(tmp_path / "out" / "labels" / "sub" / "a.png")
    inside = np.zeros(label.shape, bool)
    inside[10:34, 20:44] = True
    assert (label[~inside] == 0).all()
    clear = interior(cells, 4, margin=1) & inside
    np.testing.assert_array_equal(label[clear], truth(cells, 4)[clear])
    assert (read_label(tmp_path / "out" / "labels" / "b.png") != 0).all()


@pytest.mark.parametrize("crop_margin", [None, 0.3])
def test_a_network_trained_on_crops_asks_for_boxes(run, tmp_path, monkeypatch, crop_margin):
    colour_network.install(monkeypatch.setattr, crop_margin=crop_margin)
    save(tmp_path / "photos" / "a.png", picture(CELLS))
    status, _, errors = run(tmp_path / "photos", out=tmp_path / "out")
    assert status == 0
    assert ("--boxes" in errors) == (crop_margin is not None)


def test_video_beside_photographs(run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    # A folder named as the video, and as its frames' folder might be.
    save(photos / "v" / "000000.png", picture(CELLS))
    writer = cv2.VideoWriter(str(photos / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(5):
        writer.write(picture(CELLS)[..., ::-1].copy())
    writer.release()
    (photos / "broken.mov").write_bytes(b"no video")
    status, output, errors = run(photos, out=out)
    assert status == 1
    assert "broken.mov" in errors
    assert "2 labelled" in output
    frames = [f"labels/v.mp4/{i:06d}.png" for i in range(5)]
    assert set(frames) | {"labels/v/000000.png", "overlays/v.mp4"} <= set(files_below(out))
    _, output, _ = run(photos, out=out)
    assert "0 labelled" in output
    assert "2 were labelled before" in output


def test_full_disk_stops_with_one_sentence_and_keeps_what_is_finished(run, tmp_path, monkeypatch):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for i in range(40):
        save(photos / f"{i:02d}.png", picture(CELLS))
    real_write = atomic_file.write_bytes
    written = []

    def write(path, data):
        if path.suffix == ".png":
            written.append(path)
            if len(written) > 5:
                raise OSError(28, "No space left on device")
        real_write(path, data)

    monkeypatch.setattr(atomic_file, "write_bytes", write)
    status, _, errors = run(photos, "--no_overlay", out=out)
    assert status == 1
    assert errors.count("error: ") == 1
    assert "No space left on device" in errors
    monkeypatch.setattr(atomic_file, "write_bytes", real_write)
    status, output, _ = run(photos, "--no_overlay", out=out)
    assert status == 0
    assert "35 labelled" in output
    assert len(files_below(out / "labels")) == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--overlay_alpha=1.5"], "--overlay_alpha is 1.5"),
        (["--batch_size=0"], "batch size is 0"),
        (["--scales=0"], "scales"),
        (["--process_index=1"], "go together"),
        (["--process_index=2", "--process_count=2"], "--process_index is 2"),
        (["--records_per_shard=0"], "--records_per_shard is 0"),
        (["--boxes=nowhere.csv"], "nowhere.csv"),
        (["--split=test"], "--split is for prepared sets"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(run, tmp_path, arguments, message):
    save(tmp_path / "photos" / "a.png", picture(CELLS))
    status, _, errors = run(tmp_path / "photos", *arguments, out=tmp_path / "out")
    assert status == 1
    assert errors.startswith("error: ")
    assert message in errors
    assert not (tmp_path / "out").exists()


def test_folder_without_photographs_is_named(run, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("")
    status, _, errors = run(tmp_path / "photos", out=tmp_path / "out")
    assert status == 1
    assert re.search(r"photos holds no photograph", errors)


def write_records(path, records):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def encoded(label):
    return cv2.imencode(".png", picture(np.full((2, 2), label))[..., ::-1])[1].tobytes()


def read_shards(out):
    files = sorted((out / "labels").iterdir())
    source = ArrayRecordDataSource([str(file) for file in files])
    return files, [source[i] for i in range(len(source))]


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


def test_progress_reaches_the_end_of_every_picture(run, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    for i in range(5):
        save(photos / f"{i}.png", picture(np.full((2, 2), i)))
    bars = []

    class Bar(predict.tqdm):
        def close(self):
            bars.append((self.n, self.total))
            super().close()

    monkeypatch.setattr(predict, "tqdm", Bar)
    for options in ((), ("--shards", "--records_per_shard=2")):
        for _ in range(2):
            bars.clear()
            run(photos, *options, out=tmp_path / "-".join(("out", *options)))
            assert set(bars) == {(5, 5)}


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


# The real command in processes of its own, on the colour network. A slow one waits at each write.
_PROCESS = """
import sys, time
sys.path.insert(0, {tests!r})
import colour_network
from dmlcsr_jax import atomic_file
from dmlcsr_jax.distributed import watchdog
from dmlcsr_jax.predict import __main__ as predict
colour_network.install(setattr)
watchdog._SILENCE_SECONDS = 8.0  # half a minute in earnest
delay = float(sys.argv.pop(1))
write_bytes = atomic_file.write_bytes
def slow(path, data):
    time.sleep(delay)
    write_bytes(path, data)
atomic_file.write_bytes = slow
predict.main(sys.argv[1:])
"""


def start(*arguments, delay=0.0, env=()):
    tests = str(pathlib.Path(__file__).parents[1])
    code = textwrap.dedent(_PROCESS).format(tests=tests)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(delay), *map(str, arguments), "--checkpoint=any"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", **dict(env)},
    )


def finish(process):
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    counts = re.search(r"(\d+) labelled .* (\d+) were labelled before, (\d+) failed", output)
    return tuple(map(int, counts.groups()))


def share(index):
    return f"--process_index={index}", "--process_count=2"


@pytest.fixture(scope="module")
def two_hundred(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for i in range(200):
        save(folder / "photos" / f"{i % 3}" / f"{i:03d}.png", picture(np.full((2, 2), i % 11)))
    write_records(folder / "all.array_record", [encoded(i % 11) for i in range(200)])
    return folder


def test_two_processes_label_every_photograph_once_though_one_was_killed(two_hundred, tmp_path):
    arguments = (two_hundred / "photos", f"--out={tmp_path}", "--no_overlay")
    labels = tmp_path / "labels"
    killed = start(*arguments, *share(0), delay=0.05)
    while killed.poll() is None and sum(1 for _ in labels.rglob("*.png")) < 3:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in labels.rglob("*.png")}
    processes = [start(*arguments, *share(i)) for i in range(2)]
    (first, skipped, failed), (second, *others) = [finish(process) for process in processes]
    assert (failed, *others) == (0, 0, 0)
    assert skipped == len(before) >= 3
    assert first + skipped + second == 200
    assert 50 < second < 150
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    found = {path.relative_to(labels).as_posix(): path for path in labels.rglob("*.png")}
    assert sorted(found) == sorted(f"{i % 3}/{i:03d}.png" for i in range(200))
    for i in range(200):
        assert set(np.unique(read_label(found[f"{i % 3}/{i:03d}.png"]))) == {i % 11}


def test_two_processes_write_every_shard_once(two_hundred, tmp_path):
    arguments = (two_hundred / "all.array_record", f"--out={tmp_path}", "--records_per_shard=30")
    processes = [start(*arguments, *share(i)) for i in range(2)]
    assert [finish(process) for process in processes] == [(110, 0, 0), (90, 0, 0)]
    files, labels = read_shards(tmp_path)
    assert len(files) == 7
    names = collections.Counter()
    for i, data in enumerate(labels):
        with PIL.Image.open(io.BytesIO(data)) as label:
            names[label.text["name"]] += 1
            assert set(np.unique(np.asarray(label))) == {i % 11}
    assert names == {f"all.array_record:{i}": 1 for i in range(200)}


def slurm_job():
    """Returns the number of a Slurm job whose port, which JAX takes from it, is free."""
    for job in random.sample(range(4096), 100):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", 65535 - 4095 + job))
            return job
    raise AssertionError("no free port")


@pytest.fixture
def slurm():
    """Starts tasks of one job of two, told by their environment which they are; leaves none."""
    job, processes = slurm_job(), []

    def start_task(index, *arguments, delay=0.0):
        environment = {
            "SLURM_JOB_ID": str(job),
            "SLURM_STEP_NODELIST": "127.0.0.1",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(index),
            "SLURM_LOCALID": "0",
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        }
        processes.append(start(*arguments, "--distributed", delay=delay, env=environment))
        return processes[-1]

    yield start_task
    for process in processes:
        process.kill()
        process.wait()


def test_distributed_processes_label_every_photograph_once(two_hundred, tmp_path, slurm):
    arguments = (two_hundred / "photos", f"--out={tmp_path}", "--no_overlay")
    # One is done before the other.
    processes = [slurm(i, *arguments, delay=0.1 * i) for i in range(2)]
    (first, *others), (second, *more_others) = [finish(process) for process in processes]
    assert [*others, *more_others] == [0, 0, 0, 0]
    assert first + second == 200
    assert 50 < second < 150
    labels = tmp_path / "labels"
    assert files_below(labels) == sorted(f"{i % 3}/{i:03d}.png" for i in range(200))
    for i in range(200):
        assert set(np.unique(read_label(labels / f"{i % 3}/{i:03d}.png"))) == {i % 11}


@pytest.mark.parametrize("killed", [0, 1])
def test_a_distributed_process_names_the_one_that_died(two_hundred, tmp_path, slurm, killed):
    arguments = (two_hundred / "photos", f"--out={tmp_path}", "--no_overlay")
    processes = [slurm(i, *arguments, delay=0.3) for i in range(2)]
    while sum(1 for _ in (tmp_path / "labels").rglob("*.png")) < 3:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    processes[killed].send_signal(signal.SIGKILL)
    _, errors = processes[1 - killed].communicate(timeout=60)
    assert processes[1 - killed].returncode == 1
    assert re.search(rf"error: process {killed} has died.*; this one stops: ", errors)
    assert "Traceback" not in errors


def test_a_distributed_process_names_the_one_that_failed_and_why(two_hundred, tmp_path, slurm):
    arguments = (two_hundred / "photos", f"--out={tmp_path}", "--no_overlay")
    well, failing = slurm(0, *arguments, delay=0.3), slurm(1, *arguments, "--boxes=nowhere.csv")
    _, errors = well.communicate(timeout=60)
    _, other_errors = failing.communicate(timeout=60)
    assert well.returncode == failing.returncode == 1
    assert "error: process 1 has failed (the face boxes nowhere.csv" in errors
    assert "error: the face boxes nowhere.csv cannot be read" in other_errors
    assert "Traceback" not in errors + other_errors


def test_distributed_without_a_cluster_ends_in_one_sentence(two_hundred, tmp_path):
    process = start(two_hundred / "photos", f"--out={tmp_path}", "--distributed")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("error: no cluster was found")
    assert errors.count("\n") == 1
