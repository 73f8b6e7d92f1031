"""Photographs and videos from strangers: a fault in one file costs that file alone."""

import dataclasses
import os
import struct

import cv2
import numpy as np
import pytest
from colour_network import picture
from evil_paths import EvilPath
from prediction_files import files_below, read_label, save

from dmlcsr_jax.data.synthetic import draw_face
from dmlcsr_jax.predict.photographs import PhotoFiles

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]


@pytest.fixture
def photos(tmp_path):
    """A folder with two good photographs, which every test finds labelled as ever."""
    for label, name in ((4, "good1.png"), (7, "sub/good2.png")):
        save(tmp_path / "photos" / name, picture(np.full((2, 2), label)))
    return tmp_path / "photos"


def only_fails(run, photos, out, sentences, *options):
    """Runs twice: the named files fail each time, the good ones are labelled, no other error."""
    for labelled in (2, 0):
        status, output, errors = run(photos, *options, out=out)
        assert status == 1
        assert f"{labelled} labelled" in output
        assert f"{len(sentences)} failed" in output
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert (out / "failed.txt").read_text().splitlines() == [line[7:] for line in lines]
        assert len(lines) == len(sentences)
        for name, sentence in sentences.items():
            assert any(name in line and sentence in line for line in lines), lines
    for label, name in ((4, "good1.png"), (7, "sub/good2.png")):
        assert (read_label(out / "labels" / name) == label).all()
    assert not [path for path in out.rglob("*.part*")]


def webp(side):
    """A WebP of 34 bytes: one colour, 16383 pixels wide and high at most."""
    bits = [int(b) for b in f"{0x2F:08b}"[::-1]]
    for value, count in ((side - 1, 14), (side - 1, 14), (0, 1), (0, 3), (0, 1), (0, 1), (0, 1)):
        bits += [value >> i & 1 for i in range(count)]
    bits += [1, 0, 0, 0] * 5
    bits += [0] * (112 - len(bits))
    data = bytes(sum(bits[i + j] << j for j in range(8)) for i in range(0, len(bits), 8))
    chunk = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunk)) + chunk


def test_what_is_no_regular_file(run, photos, tmp_path):
    os.mkfifo(photos / "pipe.jpg")
    os.mkfifo(photos / "pipe.mp4")
    (photos / "zero.png").symlink_to("/dev/zero")
    (photos / "zero.mov").symlink_to("/dev/zero")
    (photos / "gone.png").symlink_to("nowhere")
    names = ("pipe.jpg", "pipe.mp4", "zero.png", "zero.mov")
    sentences = dict.fromkeys(names, "it is a named pipe, a device or a socket")
    sentences["gone.png"] = "No such file"
    only_fails(run, photos, tmp_path / "out", sentences)
    os.mkfifo(tmp_path / "x.array_record")
    status, _, errors = run(tmp_path / "x.array_record", out=tmp_path / "out2")
    assert status == 1
    assert "named pipe" in errors


def test_what_is_larger_than_it_looks(run, photos, tmp_path):
    for i in range(3):
        (photos / f"{i}.webp").write_bytes(webp(16383))
    (photos / "long.jpg").write_bytes(b"")
    os.truncate(photos / "long.jpg", 2**33)
    sentences = {f"{i}.webp": "16383x16383 pixels, has more pixels" for i in range(3)}
    only_fails(run, photos, tmp_path / "out", sentences | {"long.jpg": "more bytes than the limit"})


def test_limits_are_options(run, photos, tmp_path):
    save(photos / "large.png", picture(CELLS, 40))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    save(photos / "many.png", noise)
    write_video(photos / "v.mp4", 5)
    sentences = {"large.png": "--max_pixels", "many.png": "--max_file_bytes", "v.mp4": "max_frames"}
    limits = ("--max_pixels=4000", "--max_file_bytes=3000", "--max_frames=4")
    only_fails(run, photos, tmp_path / "out", sentences, *limits)
    assert run(photos, out=tmp_path / "out")[0] == 0
    for option in ("max_pixels", "max_file_bytes", "max_frames", "max_seconds", "read_ahead_bytes"):
        status, _, errors = run(photos, f"--{option}=0", out=tmp_path / "out")
        assert status == 1
        assert f"--{option} is 0" in errors


def test_results_that_no_encoder_takes_cost_themselves(run, photos, tmp_path):
    save(photos / "wide.png", np.zeros((1, 65_501, 3), np.uint8))
    only_fails(run, photos, tmp_path / "out", {"wide.png": "65501x1 pixels, and there is none"})
    assert "1 labelled" in run(photos, "--no_overlay", out=tmp_path / "out")[1]


def test_a_jpeg_without_its_middle(run, photos, tmp_path):
    data = cv2.imencode(".jpg", draw_face(0, 256)[0])[1].tobytes()
    for i, share in enumerate((0.05, 0.3, 0.9)):
        start = data.index(b"\xff\xda") + 40
        kept = data[:start] + data[start + int(share * (len(data) - start - 10)) :]
        assert kept.endswith(b"\xff\xd9")
        (photos / f"{i}.jpg").write_bytes(kept)
    sentences = {f"{i}.jpg": "lacks a part of its data (Corrupt JPEG data" for i in range(3)}
    only_fails(run, photos, tmp_path / "out", sentences)
    # Bytes too many harm nothing, and cameras write them.
    (photos / "0.jpg").write_bytes(data[:-2] + b"\0" * 9 + data[-2:])
    assert "1 labelled" in run(photos, out=tmp_path / "out")[1]


def test_a_file_whose_decoder_crashes_or_hangs(run, photos, tmp_path, monkeypatch):
    found = PhotoFiles.read
    for name in ("crash.jpg", "hang.jpg"):
        (photos / name).write_bytes(b"")

    def encoded(self, picture):
        real = found(self, picture)
        action = picture.name.removesuffix(".jpg")
        evil = action in ("crash", "hang")
        return dataclasses.replace(real, source=EvilPath(action)) if evil else real

    monkeypatch.setattr(PhotoFiles, "read", encoded)
    sentences = {"crash.jpg": "(SIGSEGV)", "hang.jpg": "given up after 1.5 seconds"}
    only_fails(run, photos, tmp_path / "out", sentences, "--max_seconds=1.5")


def test_names_that_cannot_be_written(run, photos, tmp_path):
    out = tmp_path / "out"
    # The place of one's label map is the other's folder.
    save(photos / "a.jpg", picture(CELLS))
    save(photos / "a.png" / "x.png", picture(CELLS))
    # Those that differ in their suffix alone keep it, and get another.
    for suffix in (".jpg", ".png"):
        save(photos / f"{'b' * 251}{suffix}", picture(CELLS))
    assert "3 labelled" in run(photos, out=out)[1]
    status, output, errors = run(photos, out=out)
    assert status == 1
    assert "0 labelled" in output
    assert "3 were labelled before, 3 failed" in output
    assert errors.count("File name too long") == 2
    assert (read_label(out / "labels" / "good1.png") == 4).all()


def test_a_name_of_255_bytes_is_labelled(run, photos, tmp_path):
    save(photos / f"{'a' * 251}.jpg", picture(CELLS))
    assert run(photos, out=tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "labels" / f"{'a' * 251}.png").is_file()


def test_a_file_in_the_place_of_a_folder(run, photos, tmp_path):
    out = tmp_path / "out"
    save(photos / "other" / "x.png", picture(CELLS))
    write_video(photos / "v.mp4", 3)
    assert run(photos, "--no_overlay", out=out)[0] == 0
    for name in ("other", "v.mp4"):
        for file in sorted((out / "labels" / name).iterdir()):
            file.unlink()
        (out / "labels" / name).rmdir()
        (out / "labels" / name).write_text("in the way")
    status, output, errors = run(photos, "--no_overlay", out=out)
    assert status == 1
    assert "2 were labelled before, 2 failed" in output
    assert errors.count("error: ") == 2
    assert (out / "labels" / "v.mp4").read_text() == "in the way"


def test_names_forge_no_lines(run, photos, tmp_path):
    name = "x\nerror: all is damaged\x1b[2J.png"
    (photos / name).write_bytes(b"")
    sentences = {"x\\nerror: all is damaged\\x1b[2J.png": "is empty"}
    only_fails(run, photos, tmp_path / "out", sentences)


def write_video(path, num_frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(num_frames):
        writer.write(picture(CELLS)[..., ::-1].copy())
    writer.release()


def test_videos_of_any_name_and_no_playlists(run, photos, tmp_path):
    folder = photos / os.fsdecode(b"\xff")
    folder.mkdir()
    write_video(tmp_path / "v.mp4", 4)
    (tmp_path / "v.mp4").rename(folder / os.fsdecode(b"\xfe 1.mp4"))
    write_video(photos / "real.mp4", 3)
    (photos / "list.mp4").write_text("ffconcat version 1.0\nfile real.mp4\n")
    (photos / os.fsdecode(b"\xfd.mkv")).write_bytes(b"no video")
    status, output, errors = run(photos, out=tmp_path / "out")
    assert status == 1
    assert "4 labelled" in output
    assert "2 failed" in output
    assert "list.mp4 is not a readable video" in errors
    assert "?.mkv is not a readable video" in errors
    made = [os.fsencode(name) for name in files_below(tmp_path / "out")]
    assert b"overlays/\xff/\xfe 1.mp4" in made
    assert b"labels/\xff/\xfe 1.mp4/000003.png" in made
    assert b"overlays/real.mp4" in made


def test_what_is_replaced_is_made_anew_whatever_its_date(run, photos, tmp_path):
    out = tmp_path / "out"
    write_video(photos / "v.mp4", 3)
    assert run(photos, out=out)[0] == 0
    assert "0 labelled" in run(photos, out=out)[1]
    save(photos / "good1.png", picture(np.full((3, 3), 2), 20))
    write_video(photos / "v.mp4", 5)
    for name in ("good1.png", "v.mp4"):
        os.utime(photos / name, (1000, 1000))
    assert "2 labelled" in run(photos, out=out)[1]
    label = read_label(out / "labels" / "good1.png")
    assert label.shape == (60, 60)
    assert (label == 2).all()
    assert cv2.imread(str(out / "overlays" / "good1.jpg")).shape == (60, 60, 3)
    assert len(files_below(out / "labels" / "v.mp4")) == 5
    assert "0 labelled" in run(photos, out=out)[1]


def test_photographs_that_may_not_wait_are_read_again(run, photos, tmp_path):
    for i in range(12):
        save(photos / f"{i}.jpg", picture(np.roll(CELLS, i), 16 + i))
    write_video(photos / "v.mp4", 20)
    assert run(photos, out=tmp_path / "out")[0] == 0
    # Less than one photograph has, so that each is read alone.
    assert run(photos, "--read_ahead_bytes=1", out=tmp_path / "small")[0] == 0
    names = files_below(tmp_path / "out")
    assert files_below(tmp_path / "small") == names
    for name in names:
        if name.startswith("labels/") or name.endswith(".jpg"):
            data = (tmp_path / "out" / name).read_bytes()
            assert (tmp_path / "small" / name).read_bytes() == data, name
