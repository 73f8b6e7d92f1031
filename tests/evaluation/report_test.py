import dataclasses
import json

import numpy as np
import PIL.Image
import pytest
import sklearn.metrics

from dmlcsr_jax import atomic_file
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation import report
from dmlcsr_jax.evaluation.evaluate import EvaluationResult, ImageRecord

HELEN = label_sets.HELEN


@pytest.fixture
def confusion():
    matrix = np.random.default_rng(0).integers(1, 1000, (11, 11))
    matrix += np.diag(np.full(11, 5000))
    matrix[8], matrix[:, 8] = 0, 0  # No inner mouth anywhere.
    return matrix.astype(np.int64)


@pytest.fixture
def result(confusion):
    rng = np.random.default_rng(1)
    records = tuple(
        ImageRecord(
            index=i,
            name=f"folder/image_{i}",
            score=0.1 * (i + 1),
            image=rng.integers(0, 256, (40, 40, 3), np.uint8),
            label=rng.integers(0, 11, (40, 40), np.uint8),
            prediction=rng.integers(0, 11, (40, 40), np.uint8),
        )
        for i in range(3)
    )
    return EvaluationResult(
        HELEN, confusion, np.diag(np.arange(11)), 30, np.array([0.25, 0.5]), records, 1.5
    )


def rows_of(table):
    rows = {}
    for line in table.split("\n\n")[0].splitlines()[2:]:
        parts = line.rsplit(maxsplit=5)
        if len(parts) == 6:
            rows[parts[0].strip()] = parts[1:]
    return rows


def test_table_agrees_with_sklearn(confusion):
    truth, prediction = (
        np.repeat(axis.ravel(), confusion.ravel()) for axis in np.indices((11, 11))
    )
    labels = [i for i in range(11) if i != 8]
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        truth, prediction, labels=labels
    )
    iou = sklearn.metrics.jaccard_score(truth, prediction, labels=labels, average=None)
    table = report.class_table(confusion, HELEN)
    rows = rows_of(table)
    for place, label in enumerate(labels):
        figures = [100 * values[place] for values in (f1, iou, precision, recall)]
        expected = [f"{figure:.2f}" for figure in figures]
        share = f"{100 * support[place] / truth.size:.3f}"
        assert rows[HELEN.classes[label]] == [*expected, share]
    assert rows["inner_mouth"] == ["-", "-", "-", "-", "0.000"]
    eyes = sklearn.metrics.f1_score(np.isin(truth, (4, 5)), np.isin(prediction, (4, 5)))
    assert rows["eyes (merged)"][0] == f"{100 * eyes:.2f}"
    assert set(rows) == {*HELEN.classes, *(f"{group} (merged)" for group in HELEN.groups)}
    mean = f1[1:].mean()
    assert f"mean F1 (without background) {100 * mean:.2f} %" in table
    assert f"mIoU {100 * iou.mean():.2f} %" in table
    accuracy = sklearn.metrics.accuracy_score(truth, prediction)
    assert f"pixel accuracy {100 * accuracy:.2f} %" in table


def test_scalar_metrics_flattens_what_is_a_number(result):
    flat = report.scalar_metrics(result.metrics)
    assert flat["mean_f1"] == result.metrics["mean_f1"]
    assert flat["classes/nose/f1"] == result.metrics["classes"]["nose"]["f1"]
    assert all(isinstance(value, float) for value in flat.values())


def test_report_writes_whole_files_and_null_for_what_does_not_exist(result, tmp_path):
    table = report.write_report(tmp_path / "new" / "out", result, {"checkpoint": "best/12"})
    out = tmp_path / "new" / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "confusion.png",
        "metrics.json",
        "table.txt",
        "worst.png",
    ]
    assert (out / "table.txt").read_text() == table + "\n"
    metrics = json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert metrics["checkpoint"] == "best/12"
    assert metrics["num_images"] == 30
    assert metrics["classes"]["inner_mouth"]["f1"] is None
    assert metrics["classes"]["nose"]["f1"] == result.metrics["classes"]["nose"]["f1"]
    assert metrics["mean_f1"] == result.metrics["mean_f1"]
    assert metrics["image_mean_f1"] == 0.375
    assert metrics["worst_tenth_mean_f1"] == 0.25
    assert metrics["boundary_mean_f1"] == 1.0
    assert "classes present 37.50 %, over the worst tenth of them 25.00 %\n" in table
    assert table.endswith("boundary between classes 100.00 %")
    np.testing.assert_array_equal(metrics["confusion"], result.confusion)
    assert metrics["worst"][0] == {"name": "folder/image_0", "index": 0, "mean_f1": 0.1}
    for name in ("confusion.png", "worst.png"):
        with PIL.Image.open(out / name) as picture:
            picture.load()


def test_report_replaces_an_older_one(result, tmp_path):
    for text in ("old", "older"):
        (tmp_path / "metrics.json").write_text(text)
        report.write_report(tmp_path, result)
        assert json.loads((tmp_path / "metrics.json").read_text())["num_images"] == 30


@pytest.mark.parametrize("name", ["table.txt", "confusion.png", "worst.png", "metrics.json"])
def test_metrics_are_there_only_when_all_else_is(result, tmp_path, monkeypatch, name):
    real_write = atomic_file.write_bytes

    def write(path, data):
        if path.name == name:
            raise OSError(28, "No space left on device")
        real_write(path, data)

    monkeypatch.setattr(atomic_file, "write_bytes", write)
    with pytest.raises(UserError, match="No space"):
        report.write_report(tmp_path, result)
    assert not (tmp_path / "metrics.json").exists()


def test_a_failed_write_leaves_the_older_files(result, tmp_path, monkeypatch):
    report.write_report(tmp_path, result)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real_write = type(report.epath.Path(tmp_path)).write_bytes

    def full_disk(path, data):
        real_write(path, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(report.epath.Path(tmp_path)), "write_bytes", full_disk)
    with pytest.raises(UserError, match="No space"):
        report.write_report(tmp_path, result, {"checkpoint": "other"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_worst_sheet_shows_what_is_wrong_in_the_labels_colour(result):
    label, prediction = np.full((40, 40), 1, np.uint8), np.full((40, 40), 1, np.uint8)
    label[:10], prediction[:10] = 10, 1  # Hair taken for skin.
    label[10:20] = 255
    record = ImageRecord(0, "a", 0.5, np.full((40, 40, 3), 9, np.uint8), label, prediction)
    sheet = report.worst_sheet([record], HELEN)
    tile = 192
    hair = np.argwhere((sheet[:-40] == HELEN.palette[10]).all(axis=-1))
    # A quarter of the label's tile, and a quarter of the tile of wrong pixels.
    assert len(hair) == 2 * tile * tile // 4
    columns = set(hair[:, 1] // (tile + 6))
    assert columns == {1, 3}


def test_training_panel_has_a_tile_for_each_map():
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    label = np.full((2, 32, 32), 6, np.int32)
    edge = np.zeros((2, 32, 32), np.int32)
    edge[:, :16] = 1
    maps = {"label": label, "prediction": label, "binary_edge": edge}
    panel = report.training_panel(images, maps, HELEN)
    assert panel.dtype == np.uint8
    nose = (panel == HELEN.palette[6]).all(axis=-1)
    swatch = 14 * 14
    assert 0 <= nose.sum() - 2 * 2 * 192 * 192 <= swatch
    wider = report.training_panel(images, maps | {"teacher_prediction": label}, HELEN)
    assert wider.shape[1] - panel.shape[1] == 192 + 6
    with pytest.raises(KeyError, match="depth"):
        report.training_panel(images, {"depth": label}, HELEN)


def test_class_names_are_no_formulas():
    names = ("background", "$\\frac{", "b$")
    labels = dataclasses.replace(
        HELEN,
        classes=names,
        palette=HELEN.palette[:3],
        mirror_pairs=(),
        left_is="none",
        groups={},
    )
    picture = report.confusion_picture(np.eye(3, dtype=np.int64), labels)
    assert picture.startswith(b"\x89PNG")
