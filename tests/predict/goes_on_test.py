import os
import time

import colour_network
import numpy as np
from colour_network import picture
from prediction_files import files_below, save

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
