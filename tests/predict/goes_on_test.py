import json
import os

import colour_network
import numpy as np
from colour_network import picture
from prediction_files import files_below, read_label, save

from dmlcsr_jax import atomic_file, progress

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]


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


def test_only_what_is_missing_or_changed_is_made_again_whatever_the_dates(run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for name in "abc":
        save(photos / f"{name}.png", picture(CELLS))
    assert "3 labelled" in run(photos, out=out)[1]
    (out / "overlays" / "a.jpg").unlink()
    save(photos / "b.png", picture(CELLS, 12))
    os.utime(photos / "c.png", (2**31, 2**31))
    before = (out / "labels" / "c.png").stat().st_mtime_ns
    assert "2 labelled" in run(photos, out=out)[1]
    assert (out / "labels" / "c.png").stat().st_mtime_ns == before
    assert (out / "overlays" / "a.jpg").exists()


def test_another_photograph_is_added_and_other_settings_replace(run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for i, name in enumerate(("one", "two", "three")):
        save(tmp_path / name / "a.png", picture(np.full((2, 2), 1 + i)))
    assert "1 labelled" in run(tmp_path / "one/a.png", out=out)[1]
    # Of the same name, and then in a listing that names all.
    assert "1 labelled" in run(tmp_path / "two/a.png", out=out)[1]
    status, output, _ = run(tmp_path / "one", tmp_path / "three", out=out)
    assert status == 0
    found = [np.unique(read_label(file)).tolist() for file in (out / "labels").rglob("*.png")]
    assert sorted(found) == [[1], [1], [2], [3]]
    before = files_below(out)
    status, output, _ = run(tmp_path / "two/a.png", "--flip", out=out)
    assert status == 0
    assert "1 labelled" in output
    assert "1 of them in place of earlier results, 0 were labelled before" in output
    colour_network.install(monkeypatch.setattr, seed=1)
    assert "in place of" in run(tmp_path / "two/a.png", "--flip", out=out)[1]
    status, output, _ = run(tmp_path / "two/a.png", "--flip", out=out)
    assert "0 labelled" in output
    assert "in place of" not in output
    assert files_below(out) == before


def test_a_box_labels_its_own_photograph_anew(run, tmp_path):
    photos, boxes = tmp_path / "photos", tmp_path / "boxes.csv"
    for name in "ab":
        save(photos / f"{name}.png", picture(CELLS))
    boxes.write_text("name,x0,y0,x1,y1\na.png,0,0,32,32\n")
    assert "2 labelled" in run(photos, f"--boxes={boxes}", out=tmp_path / "out")[1]
    boxes.write_text("name,x0,y0,x1,y1\na.png,0,0,32,32\nb.png,0,0,32,32\n")
    assert "1 labelled" in run(photos, f"--boxes={boxes}", out=tmp_path / "out")[1]


def test_json_tells_of_what_was_labelled_before_too(run, tmp_path):
    save(tmp_path / "photos/a.png", picture(np.full((2, 2), 3)))
    for options in ((), ("--shards",)):
        out = tmp_path / "-".join(("out", *options))
        assert run(tmp_path / "photos", *options, out=out)[1].count("{") == 0
        _, lines, said = run(tmp_path / "photos", "--json", *options, out=out)
        assert "1 were labelled before" in said
        assert json.loads(lines)["name"] == "a.png"
        assert json.loads(lines)["pixels"]["right_brow"] == 32 * 32


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


def test_progress_reaches_the_end_of_every_picture(run, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    for i in range(5):
        save(photos / f"{i}.png", picture(np.full((2, 2), i)))
    bars = []

    class Bar(progress.tqdm):
        def close(self):
            bars.append((self.n, self.total))
            super().close()

    monkeypatch.setattr(progress, "tqdm", Bar)
    for options in ((), ("--shards", "--records_per_shard=2")):
        for _ in range(2):
            bars.clear()
            run(photos, *options, out=tmp_path / "-".join(("out", *options)))
            assert set(bars) == {(5, 5)}
