import os
import re

import colour_network
import cv2
import numpy as np
from colour_network import interior, picture, truth
from prediction_files import files_below, read_label, save

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]


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
        "overlays/legend.png",
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
    # Once they are fixed, only they are missing.
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


def test_folder_without_photographs_is_named(run, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.txt").write_text("")
    status, _, errors = run(tmp_path / "photos", out=tmp_path / "out")
    assert status == 1
    assert re.search(r"photos holds no photograph", errors)
