"""The command: interrupted, on damaged files, on a full disk, on what is there already."""

import hashlib
import pathlib
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from dmlcsr_jax.data import prepare
from dmlcsr_jax.data.prepared import PreparedSource
from dmlcsr_jax.data.synthetic import draw_face

_NUM_IMAGES = 24
# Small shards, so that there are several to interrupt.
_COMMAND = """
import resource, sys
from dmlcsr_jax.data import prepare
from dmlcsr_jax.data.builders import base
base.EXAMPLES_PER_SHARD = 4
if sys.argv[1] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
prepare.main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of pictures large enough that a shard takes some tenths of a second."""
    root = tmp_path_factory.mktemp("source")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    image, label = (cv2.resize(x, (640, 640), interpolation=0) for x in draw_face(0, 64))
    rng = np.random.default_rng(0)
    for i in range(_NUM_IMAGES):
        noisy = np.uint8(np.clip(image + rng.normal(0, 12, image.shape), 0, 255))
        cv2.imwrite(str(root / "images" / f"{i:02d}.jpg"), noisy)
        cv2.imwrite(str(root / "labels" / f"{i:02d}.png"), np.roll(label, 7 * i, axis=1))
    lines = [f"images/{i:02d}.jpg labels/{i:02d}.png\n" for i in range(_NUM_IMAGES)]
    (root / "train_list.txt").write_text("".join(lines[:-4]))
    (root / "val_list.txt").write_text("".join(lines[-4:]))
    return root


def arguments(source, to, workers=1):
    common = ["--dataset=folder", "--label_set=helen", f"--num_workers={workers}"]
    return [*common, f"--root={source}", f"--out={to}"]


def start(source, to, workers=1, file_limit=0, **options):
    command = [sys.executable, "-c", _COMMAND, str(file_limit), *arguments(source, to, workers)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)


def ignore_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def finish(process):
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def contents(root):
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def uninterrupted(source, tmp_path_factory):
    """What one run makes that is never stopped."""
    to = tmp_path_factory.mktemp("uninterrupted")
    status, output, errors = finish(start(source, to, workers=2))
    assert status == 0, errors
    assert "20 train, 4 val" in output
    return contents(to)


def test_a_set_is_its_records_and_their_description(uninterrupted):
    shards = [f"folder-train.array_record-0000{i}-of-00005" for i in range(5)]
    shards += ["folder-val.array_record-00000-of-00001"]
    others = ["dataset_info.json", "features.json", "metadata.json"]
    assert sorted(uninterrupted) == sorted(f"folder/1.0.0/{n}" for n in shards + others)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_and_started_again_ends_in_the_same_files(source, uninterrupted, tmp_path, how):
    # As a shell starts it in the background (`nohup`, `&`).
    process = start(source, tmp_path, preexec_fn=ignore_interrupts)
    partial = tmp_path / "folder" / "1.0.0.partial"
    deadline = time.monotonic() + 60
    while not list(partial.glob("*-of-0000?")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(how)
    status, _, errors = finish(process)
    assert status == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if how == signal.SIGINT:
        assert "goes on from the finished files" in errors
        assert "Traceback" not in errors
    assert not (tmp_path / "folder" / "1.0.0").exists()
    with pytest.raises(ValueError, match="no prepared set"):
        PreparedSource(tmp_path, "train")
    finished = {path.name: path.stat().st_ino for path in partial.glob("*-of-0000?")}
    assert 0 < len(finished) < 6

    status, _, errors = finish(start(source, tmp_path))
    assert status == 0, errors
    assert contents(tmp_path) == uninterrupted
    for name, inode in finished.items():
        assert (tmp_path / "folder" / "1.0.0" / name).stat().st_ino == inode


def test_a_full_disk_ends_with_the_name_of_the_file(source, uninterrupted, tmp_path):
    # The kernel refuses to let files grow beyond 200 kB, as a full disk would.
    status, _, errors = finish(start(source, tmp_path, file_limit=200_000))
    assert status == 1
    assert "Traceback" not in errors
    message = errors[errors.index("error: ") :]
    assert "folder-train.array_record-0000" in message
    assert "cannot be written" in message
    assert "make room" in message
    assert not (tmp_path / "folder" / "1.0.0").exists()
    assert not list(tmp_path.rglob("*.unfinished"))
    assert finish(start(source, tmp_path))[0] == 0
    assert contents(tmp_path) == uninterrupted


def test_too_little_room_is_known_before(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage())
    with pytest.raises(SystemExit):
        prepare.main(arguments(source, tmp_path))
    assert "MB free; make room" in capsys.readouterr().err


class _Usage:
    free = 1000


def damage_image(root):
    path = root / "images" / "05.jpg"
    path.write_bytes(path.read_bytes()[:10_000])
    return path


def damage_label(root):
    path = root / "labels" / "22.png"
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    label[3, 4] = 11
    cv2.imwrite(str(path), label)
    return "label 11 at row 3, column 4"


def damage_size(root):
    path = root / "labels" / "05.png"
    cv2.imwrite(str(path), np.zeros((600, 640), np.uint8))
    return path.stem + ".jpg is 640x640"


@pytest.mark.parametrize("damage", [damage_image, damage_label, damage_size])
def test_a_bad_file_ends_with_its_name(source, tmp_path, damage, capsys):
    for path in source.rglob("*.*"):
        copy = tmp_path / "copy" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    bad = damage(tmp_path / "copy")
    with pytest.raises(SystemExit) as stopped:
        prepare.main(arguments(tmp_path / "copy", tmp_path / "to"))
    assert stopped.value.code == 1
    message = capsys.readouterr().err.split("error: ")[1]
    assert str(bad) in message
    assert "\n" not in message.strip()
    assert not list((tmp_path / "to").rglob("dataset_info.json"))


def test_what_is_prepared_already(source, tmp_path, capsys):
    prepare.main(arguments(source, tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    prepare.main(arguments(source, tmp_path))
    assert capsys.readouterr().out.count("holds 20 train, 4 val") == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(SystemExit):
        prepare.main([*arguments(source, tmp_path), "--max_side=64"])
    assert "prepared from other images or with other options" in capsys.readouterr().err


def test_shards_of_another_choice_are_not_reused(source, tmp_path):
    partial = tmp_path / "folder" / "1.0.0.partial"
    partial.mkdir(parents=True)
    (partial / "summary.json").write_text("{}")
    for split in ("train", "val"):
        (partial / f"folder-{split}.array_record-00000-of-00001").write_bytes(b"of another run")
    leftover = tmp_path / "folder" / "1.0.0.incompleteABCDEF"
    leftover.mkdir()
    prepare.main(arguments(source, tmp_path))
    assert len(PreparedSource(tmp_path, "train")) == 20
    assert PreparedSource(tmp_path, "train")[19]["name"] == "19"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["1.0.0"]


def test_two_at_once(source, tmp_path, capsys):
    import fcntl

    partial = tmp_path / "folder" / "1.0.0.partial"
    partial.mkdir(parents=True)
    with (partial / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit):
            prepare.main(arguments(source, tmp_path))
    assert "being prepared by another process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_side=0"], "--max_side is 0"),
        (["--jpeg_quality=101"], "--jpeg_quality is 101"),
        (["--num_workers=0"], "--num_workers is 0"),
        (["--val_fraction=0.6", "--test_fraction=0.6"], "at most 1 together"),
        (["--split_seed=-1"], "--split_seed is -1"),
        (["--label_set=unknown"], "no label set"),
        (["--root=/nowhere/at/all"], "/nowhere/at/all does not exist"),
    ],
)
def test_impossible_choices(source, tmp_path, options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        prepare.main([*arguments(source, tmp_path), *options])
    assert stopped.value.code == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place(source, tmp_path, capsys):
    (tmp_path / "folder").write_text("a file where a folder should be")
    with pytest.raises(SystemExit):
        prepare.main(arguments(source, tmp_path))
    assert "cannot be written" in capsys.readouterr().err


def test_unknown_set():
    with pytest.raises(ValueError, match="celebamask_hq, lapa, helen, helen_star"):
        prepare.prepare("helena", pathlib.Path(), pathlib.Path())
