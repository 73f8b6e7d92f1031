import colour_network
import numpy as np
import pytest
from colour_network import interior, picture, truth
from prediction_files import read_label, save

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.boxes import read_boxes

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]


def test_boxes_of_a_photograph_stay_together(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(
        "x0,y0,x1,y1,name,score\n1,2,3.5,4,a.jpg,9\n0,0,1,1,sub/b.jpg,\n5,6,7,8,a.jpg,1\n"
    )
    assert read_boxes(path) == {
        "a.jpg": [(1, 2, 3.5, 4), (5, 6, 7, 8)],
        "sub/b.jpg": [(0, 0, 1, 1)],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg,1,2,3,4\n", "first line must be name,x0,y0,x1,y1"),
        ("name,x0,y0,x1\na.jpg,1,2,3\n", "lacks the column y1"),
        ("name,x0,y0,x1,y1\na.jpg,1,2,3,4\nb.jpg,1,2,x,4\n", "line 3"),
        ("name,x0,y0,x1,y1\na.jpg,5,2,3,4\n", "line 2.*no box"),
        ("name,x0,y0,x1,y1\na.jpg,1,2,3\n", "line 2.*no box"),
        ("name,x0,y0,x1,y1\na.jpg,1,2,nan,4\n", "line 2.*no box"),
        ("x0,y0,x1,y1,name\n1,2,3,4\n", "line 2.*no box"),
        (f"name,x0,y0,x1,y1\n{'a' * 200_000},1,2,3,4\n", "cannot be read: field larger than"),
        (f"name,x0,y0,x1,y1\na.jpg,{'9' * 100_000},2,3,4\n", r"line 2: .{1,200} is no box"),
    ],
)
def test_boxes_that_are_not_understood_are_refused(tmp_path, text, message):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_boxes(tmp_path / "boxes.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_boxes(tmp_path / "none.csv")


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
    status, _, errors = run(tmp_path / "photos", "--faces=whole", out=tmp_path / "out")
    assert status == 0
    assert ("--boxes" in errors) == (crop_margin is not None)


def test_names_that_match_no_photograph_are_said_once(run, tmp_path):
    for name in ("sub/a.png", "b.png"):
        save(tmp_path / "photos" / name, picture(CELLS))
    (tmp_path / "boxes.csv").write_text(
        "name,x0,y0,x1,y1\nsub/a.png,0,0,9,9\na.png,0,0,9,9\na.png,9,9,20,20\nb.jpg,0,0,9,9\n"
    )
    boxes = f"--boxes={tmp_path / 'boxes.csv'}"
    status, output, errors = run(tmp_path / "photos", boxes, out=tmp_path / "out")
    assert status == 0
    assert "2 labelled" in output
    [warning] = [line for line in errors.splitlines() if line.startswith("warning: ")]
    assert "2 of 3 names in" in warning
    assert "match no photograph, first 'a.png'; " in warning
    assert str(tmp_path / "photos") in warning
    # Of several processes one says it.
    _, _, errors = run(
        tmp_path / "photos", boxes, "--process_index=1", "--process_count=2", out=tmp_path / "out"
    )
    assert "warning" not in errors
    (tmp_path / "boxes.csv").write_text("name,x0,y0,x1,y1\nb.png,0,0,9,9\n")
    _, _, errors = run(tmp_path / "photos", boxes, out=tmp_path / "other")
    assert "warning" not in errors
