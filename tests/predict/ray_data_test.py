"""The command with --ray on a local cluster of two workers, beside the plain command."""

import csv
import dataclasses
import errno
import json
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import PIL.Image
import pytest
from etils import epath
from prediction_files import files_below, read_label, save

pytest.importorskip("ray", reason="needs pip install 'dmlcsr_jax[ray]'")
pytest.importorskip("onnxruntime", reason="needs pip install 'dmlcsr_jax[onnx]'")
psutil = pytest.importorskip("psutil")

import pyarrow as pa  # noqa: E402
import pyarrow.parquet  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from small_onnx import CLASSES, GREYS, grey_onnx, small_onnx  # noqa: E402

from dmlcsr_jax import atomic_file  # noqa: E402
from dmlcsr_jax.errors import UserError  # noqa: E402
from dmlcsr_jax.predict.arguments import parse_arguments  # noqa: E402
from dmlcsr_jax.predict.parquet_rows import ParquetRows, parquet_files  # noqa: E402
from dmlcsr_jax.predict.photographs import Picture  # noqa: E402
from dmlcsr_jax.predict.ray_data import Labeller  # noqa: E402
from dmlcsr_jax.predict.report import AlreadyLabelled, Labelled  # noqa: E402
from dmlcsr_jax.predict.run import Run  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUMMARY = re.compile(r"(\d+) labelled in .* (\d+) were labelled before, (\d+) failed; see")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """An exported file whose labels are the photograph's grey."""
    path = tmp_path_factory.mktemp("network") / "greys.onnx"
    path.write_bytes(grey_onnx().SerializeToString())
    return path


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine: a head without cores, and two workers of one core each."""
    cluster = Cluster()
    cluster.add_node(num_cpus=0)
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    yield cluster, workers
    cluster.shutdown()


def grey(number):
    # Square: what is beside others would be shown black.
    side = 24 + number % 5
    return np.full((side, side, 3), GREYS[number % CLASSES], np.uint8)


def make_photographs(folder, count):
    for i in range(count):
        save(folder / f"{i % 3}" / f"{i:03d}.png", grey(i))
    return folder


def start(network, photographs, out, *options):
    command = [sys.executable, "-m", "dmlcsr_jax.predict", photographs, f"--out={out}"]
    command += [f"--checkpoint={network}", "--backend=onnx", "--faces=whole", *options]
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, status=0):
    """Returns the counts of the last lines, stdout and stderr."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    counts = SUMMARY.search(output) or SUMMARY.search(errors)
    assert counts, errors
    return tuple(map(int, counts.groups())), output, errors


def run(*arguments, status=0):
    return finish(start(*arguments), status)


def contents(out):
    """Returns the files of an output folder, but those that name it or its time."""
    names = files_below(out)
    return {name: (out / name).read_bytes() for name in names if name != "photographs.csv"}


def table(out):
    with open(out / "photographs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: row for row in rows}


def require_labels(out, count):
    names = [f"{i % 3}/{i:03d}.png" for i in range(count)]
    assert files_below(out / "labels") == sorted(names)
    for i, name in enumerate(names):
        assert set(np.unique(read_label(out / "labels" / name))) == {i % CLASSES}, name
    assert sorted(table(out)) == sorted(names)


def wait_for_labels(process, out, count):
    while sum(1 for _ in (out / "labels").rglob("*.png")) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def actors():
    """Returns the processes in which Ray's actors of this test run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("Labeller" in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


@pytest.mark.slow
def test_the_files_are_those_of_the_plain_command_and_a_second_start_does_the_rest(
    network, cluster, tmp_path
):
    photographs = make_photographs(tmp_path / "photos", 40)
    damaged = photographs / "1" / "damaged.png"
    damaged.write_bytes((photographs / "1" / "001.png").read_bytes()[:40])
    options = ("--masks=all", "--cutout=hair")
    ray = (*options, f"--ray={cluster[0].address}")
    plain, _, plain_errors = run(network, photographs, tmp_path / "plain", *options, status=1)
    counts, output, errors = run(network, photographs, tmp_path / "ray", *ray, status=1)
    assert counts == plain == (40, 0, 1)
    assert "actors of Ray: 2, each with CPU=1" in output
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    sentence = f"error: {damaged} is cut off or damaged"
    assert sentence in errors
    assert sentence in plain_errors
    rows = table(tmp_path / "ray")
    assert next(iter(rows)) == "1/damaged.png"
    assert rows["1/damaged.png"]["result"] == "failed"
    assert str(damaged) in rows["1/damaged.png"]["what is wrong"]
    assert {row["result"] for name, row in rows.items() if name != "1/damaged.png"} == {"labelled"}
    # One is gone, one is another photograph, one is good at last.
    (tmp_path / "ray" / "labels" / "0" / "003.png").unlink()
    save(photographs / "1" / "004.png", grey(5))
    save(damaged, grey(2))
    before = contents(tmp_path / "ray")
    counts, output, _ = run(network, photographs, tmp_path / "ray", *ray, "--json")
    assert counts == (3, 38, 0)
    lines = [json.loads(line) for line in output.splitlines()]
    assert sorted(line["name"] for line in lines) == sorted(rows)
    after = contents(tmp_path / "ray")
    changed = {name for name in after if after[name] != before.get(name) and "labels" in name}
    assert changed == {"labels/0/003.png", "labels/1/004.png", "labels/1/damaged.png"}
    assert "failed.txt" not in after
    results = [row["result"] for row in table(tmp_path / "ray").values()]
    assert sorted(results) == 3 * ["labelled"] + 38 * ["labelled before"]


@pytest.mark.slow
def test_an_actor_that_is_killed_costs_no_photograph_and_doubles_none(network, cluster, tmp_path):
    photographs = make_photographs(tmp_path / "photos", 600)
    process = start(network, photographs, tmp_path / "out", f"--ray={cluster[0].address}")
    wait_for_labels(process, tmp_path / "out", 20)
    killed = actors()
    assert killed
    killed[0].send_signal(signal.SIGKILL)
    (labelled, before, failed), _, _ = finish(process)
    assert failed == 0
    # What the killed one had finished of its part was there when the part was tried again.
    assert labelled + before == 600
    assert before < 100
    require_labels(tmp_path / "out", 600)


@pytest.mark.slow
def test_rows_of_parquet_are_photographs(network, cluster, tmp_path):
    photographs = make_photographs(tmp_path / "photos", 30)
    names = [f"{i % 3}/{i:03d}.png" for i in range(30)] + ["0/000.jpg", "bad.png"]
    data = [(photographs / name).read_bytes() for name in names[:30]]
    data += [data[1], data[1][:40]]
    for part in range(2):
        rows = pa.table({"name": names[part::2], "bytes": data[part::2], "id": names[part::2]})
        (tmp_path / "rows").mkdir(exist_ok=True)
        pa.parquet.write_table(rows, tmp_path / "rows" / f"{part}.parquet", row_group_size=5)
    ray = f"--ray={cluster[0].address}"
    counts, _, errors = run(network, tmp_path / "rows", tmp_path / "out", ray, status=1)
    assert counts == (31, 0, 1)
    assert f"error: {tmp_path}/rows/0.parquet: bad.png is cut off or damaged" in errors
    # Of one name but for the suffix, as with files.
    expected = [name for name in names[1:30]] + ["0/000.png.png", "0/000.jpg.png"]
    assert files_below(tmp_path / "out" / "labels") == sorted(expected)
    for i in range(1, 30):
        assert set(np.unique(read_label(tmp_path / "out" / "labels" / names[i]))) == {i % CLASSES}
    counts, _, _ = run(network, tmp_path / "rows", tmp_path / "out", ray, status=1)
    assert counts == (0, 31, 1)


@pytest.fixture
def sent(network, tmp_path, monkeypatch):
    """A run on two photographs as an actor gets it, and the part that it gets."""
    # An actor's process is its own.
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(cv2, "setNumThreads", lambda number: None)
    photographs = make_photographs(tmp_path / "photos", 2)
    arguments = [str(photographs), f"--checkpoint={network}", f"--out={tmp_path / 'out'}"]
    run = Run(parse_arguments([*arguments, "--backend=onnx", "--faces=whole"], ""), sys.stdout)
    pictures = [pickle.dumps(picture) for picture in run.source]
    return pickle.loads(pickle.dumps(run)), pa.table({"pickled": pa.array(pictures, pa.binary())})


def labelled(labeller, part):
    return [pickle.loads(data) for data in labeller(part)["pickled"]]


def test_an_actor_labels_its_part_and_skips_it_when_it_is_tried_again(sent, tmp_path):
    run, part = sent
    labeller = Labeller(run, 1, {"SOME_VARIABLE": "3"}, None)
    assert (os.environ["SOME_VARIABLE"], os.environ["NPROC"]) == ("3", "1")
    found = labelled(labeller, part)
    assert [(name, type(result)) for name, result in found] == [
        ("0/000.png", Labelled),
        ("1/001.png", Labelled),
    ]
    for i, name in enumerate(["0/000.png", "1/001.png"]):
        assert set(np.unique(read_label(tmp_path / "out" / "labels" / name))) == {i}
    again = labelled(labeller, part)
    assert [type(result) for _, result in again] == 2 * [AlreadyLabelled]
    assert [result.line for _, result in again] == [result.line for _, result in found]


def test_an_actor_labels_pictures_that_move(sent, tmp_path):
    run, part = sent
    frames = [PIL.Image.fromarray(grey(5 * number)) for number in (1, 2)]
    path = epath.Path(tmp_path / "moving.gif")
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    picture = Picture(0, "moving.gif", "moving", True, path, str(path))
    part = pa.table({"pickled": pa.array([pickle.dumps(picture)], pa.binary())})
    [(name, result)] = labelled(Labeller(run, 1, {}, None), part)
    assert (name, type(result)) == ("moving.gif", Labelled)
    assert len(files_below(tmp_path / "out" / "labels" / "moving.gif")) == 2


def test_a_full_disk_ends_the_run_and_a_name_that_is_taken_does_not(sent, tmp_path, monkeypatch):
    run, part = sent
    (tmp_path / "out" / "labels" / "0" / "000.png").mkdir(parents=True)
    labeller = Labeller(run, 1, {}, None)
    (first, error), (second, result) = labelled(labeller, part)
    assert (first, second) == ("0/000.png", "1/001.png")
    assert "a folder is" in str(error) or "cannot write" in str(error)
    assert isinstance(result, Labelled)

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    (tmp_path / "out" / "labels" / "1" / "001.png").unlink()
    monkeypatch.setattr(atomic_file, "write_bytes", full)
    [(name, error)] = labelled(labeller, part)
    assert name is None
    assert "No space left on device" in str(error)


def test_an_actor_whose_network_is_another_says_so(sent, network):
    run, part = sent
    other = network.with_name("other.onnx")
    model = small_onnx()
    other.write_bytes(model.SerializeToString())
    run.options = dataclasses.replace(run.options, checkpoint=str(other))
    [(name, error)] = labelled(Labeller(run, 1, {}, None), part)
    assert name is None
    assert "other.onnx is another network on" in str(error)
    assert "or give --backend" in str(error)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": ["a.png"], "image": [b"1"]}, "columns name (string), image (binary); photo"),
        ({"name": ["a.png"], "bytes": ["1"]}, "bytes (string); photographs are in bytes (binary)"),
        ({"name": ["a.png", "a.png"], "bytes": [b"1", b"2"]}, "has 2 rows of the name 'a.png'"),
        ({"name": ["../a.png"], "bytes": [b"1"]}, "has a row of the name '../a.png'"),
        ({"name": ["/a.png"], "bytes": [b"1"]}, "has a row of the name '/a.png'"),
        ({"name": ["a.png", None], "bytes": [b"1", b"2"]}, "has a row of the name None"),
    ],
)
def test_parquet_that_names_no_photographs_is_refused(tmp_path, columns, message):
    pa.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=re.escape(message)):
        ParquetRows(parquet_files(tmp_path))


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"none")
    with pytest.raises(UserError, match=r"a\.parquet cannot be read: "):
        ParquetRows(parquet_files(tmp_path / "a.parquet"))


@pytest.mark.slow
def test_a_node_that_is_lost_costs_no_photograph(network, tmp_path):
    photographs = make_photographs(tmp_path / "photos", 600)
    own = Cluster()
    try:
        own.add_node(num_cpus=0)
        nodes = [own.add_node(num_cpus=1) for _ in range(2)]
        process = start(network, photographs, tmp_path / "out", f"--ray={own.address}")
        wait_for_labels(process, tmp_path / "out", 20)
        own.remove_node(nodes[0], allow_graceful=False)
        (labelled, before, failed), _, _ = finish(process)
    finally:
        own.shutdown()
    assert failed == 0
    assert labelled + before == 600
    require_labels(tmp_path / "out", 600)
