"""What there is to look at: table, `metrics.json`, confusion matrix, worst images, panels."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tabulate import tabulate

from dmlcsr_jax import atomic_file, visualization
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation.evaluate import EvaluationResult, ImageRecord
from dmlcsr_jax.evaluation.metrics import json_safe, summarize

# More classes than this leave no room for a number in each cell of the confusion matrix.
_MAX_NUMBERED_CLASSES = 40


def class_table(confusion: np.ndarray, label_set: LabelSet) -> str:
    """Returns the table of an evaluation, one row a class and a merged group, and the means.

    Args:
      confusion: int64 `[C, C]`, rows truth.
      label_set: names and groups.

    Returns:
      Lines of text; "pixels" is the class's share of the pixels that count; a figure that does not
      exist (of a class neither in the truth nor predicted) is a dash.
    """
    summary = summarize(confusion, label_set)

    def row(name, scores):
        columns = [scores[key] for key in ("f1", "iou", "precision", "recall")]
        return [name, *columns, scores["truth_pixels"] / max(1, summary["num_pixels"])]

    rows = [row(name, scores) for name, scores in summary["classes"].items()]
    groups = [row(f"{name} (merged)", scores) for name, scores in summary["groups"].items()]
    table = tabulate(
        [
            [name, *map(_percent, scores), _percent(share, digits=3)]
            for name, *scores, share in rows + groups
        ],
        headers=["class", "F1 %", "IoU %", "precision %", "recall %", "pixels %"],
        colalign=("left",) + ("right",) * 5,
        disable_numparse=True,
    )
    return (
        f"{table}\n\n"
        f"mean F1 (without background) {_percent(summary['mean_f1'])} %, "
        f"mIoU {_percent(summary['miou'])} %, "
        f"pixel accuracy {_percent(summary['pixel_accuracy'])} %"
    )


def _percent(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f}"


def scalar_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of nested metrics under names joined by slashes, as `f1/nose`."""
    flat = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": leaf for inner, leaf in scalar_metrics(value).items()}
        elif isinstance(value, (int, float, np.number)):
            flat[name] = float(value)
    return flat


def confusion_picture(confusion: np.ndarray, label_set: LabelSet) -> bytes:
    """Returns a PNG of the confusion matrix, each row in per cent of the true class's pixels.

    Args:
      confusion: int64 `[C, C]`, rows truth.
      label_set: class names.
    """
    truth = confusion.sum(axis=1, keepdims=True)
    share = np.where(truth > 0, 100 * confusion / np.maximum(truth, 1), np.nan)
    count = label_set.num_classes
    side = max(5.0, 0.45 * count + 2.5)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("0.85")
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    # A name may hold a dollar, which begins no formula.
    plain = {"parse_math": False}
    axes.set_xticks(
        range(count), label_set.classes, rotation=60, ha="right", rotation_mode="anchor", **plain
    )
    axes.set_yticks(range(count), label_set.classes, **plain)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("Per cent of each true class's pixels (grey: class not in the set)", fontsize=10)
    figure.colorbar(image, ax=axes, label="%", fraction=0.046)
    if count <= _MAX_NUMBERED_CLASSES:
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.5:
                colour = "white" if value > 55 else "black"
                axes.text(
                    column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8
                )
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()


def worst_sheet(records: Sequence[ImageRecord], label_set: LabelSet) -> np.ndarray:
    """Returns a sheet of images beside label, prediction and wrong pixels, worst first.

    Args:
      records: one row each.
      label_set: palette and names.

    Returns:
      uint8 `[H, W, 3]` RGB, with a legend below.
    """
    rows = [
        [
            record.image,
            visualization.paint(record.label, label_set),
            visualization.paint(record.prediction, label_set),
            _wrong_pixels(record, label_set),
        ]
        for record in records
    ]
    sheet = visualization.grid(
        rows,
        column_titles=["image", "label", "prediction", "wrong pixels, in the label's colour"],
        row_titles=[f"{record.name}: mean F1 {100 * record.score:.1f} %" for record in records],
    )
    return np.concatenate([sheet, visualization.legend(label_set, sheet.shape[1])])


def _wrong_pixels(record: ImageRecord, label_set: LabelSet) -> np.ndarray:
    """Returns the greyed image, where the prediction is wrong in the label's colour."""
    grey = np.repeat(record.image.mean(axis=2, keepdims=True) * 0.4 + 153, 3, axis=2)
    wrong = (record.label != record.prediction) & (record.label != label_set.ignore_label)
    painted = visualization.paint(record.label, label_set)
    return np.where(wrong[..., None], painted, grey.astype(np.uint8))


_PANEL_COLUMNS = {
    "label": "label",
    "prediction": "prediction",
    "teacher_prediction": "teacher's prediction",
    "binary_edge": "binary edge",
    "predicted_binary_edge": "predicted binary edge",
    "category_edge": "category edge",
    "predicted_category_edge": "predicted category edge",
}


def training_panel(
    images: np.ndarray, maps: Mapping[str, np.ndarray], label_set: LabelSet
) -> np.ndarray:
    """Returns one picture of what the network sees, is to say and says.

    Args:
      images: uint8 `[n, S, S, 3]` RGB.
      maps: integers `[n, S, S]` under the names that `training.step.panel_step` gives;
        those that are not there are left out.
      label_set: palette and names.

    Returns:
      uint8 `[H, W, 3]` RGB: a row an image, with titles above and a legend below.

    Raises:
      KeyError: where `maps` has a name that is not one of the panel's.
    """
    if unknown := set(maps) - set(_PANEL_COLUMNS):
        raise KeyError(f"the panel has no column for {', '.join(sorted(unknown))}")
    names = [name for name in _PANEL_COLUMNS if name in maps]

    def paint(name, values):
        if name.endswith("binary_edge"):
            return np.repeat(np.uint8(255) * (values[..., None] != 0), 3, axis=2)
        return visualization.paint(values, label_set)

    rows = [
        [image, *(paint(name, np.asarray(maps[name][i])) for name in names)]
        for i, image in enumerate(images)
    ]
    sheet = visualization.grid(rows, column_titles=["image", *(_PANEL_COLUMNS[n] for n in names)])
    return np.concatenate([sheet, visualization.legend(label_set, sheet.shape[1])])


def write_report(
    out: epath.PathLike, result: EvaluationResult, about: Mapping[str, Any] | None = None
) -> str:
    """Writes `table.txt`, `confusion.png`, `worst.png`, and `metrics.json` when these are there.

    Args:
      out: the folder, local or remote; it is made.
      result: what an evaluation found.
      about: further JSON-serialisable entries of `metrics.json`, such as the checkpoint.

    Returns:
      The table, as written to `table.txt`.

    Raises:
      UserError: where a file cannot be written.
    """
    out = epath.Path(out)
    try:
        return _write_report(out, result, about or {})
    except OSError as error:
        raise UserError(
            f"cannot write the results in {out}: {error.strerror or error}; fix that and evaluate "
            "again by --mode=eval."
        ) from error


def _write_report(out: epath.Path, result: EvaluationResult, about: Mapping[str, Any]) -> str:
    metrics = result.metrics
    table = (
        f"{class_table(result.confusion, result.label_set)}\n"
        "mean over the images of the mean F1 of the classes present "
        f"{_percent(metrics['image_mean_f1'])} %, over the worst tenth of them "
        f"{_percent(metrics['worst_tenth_mean_f1'])} %\n"
        "mean F1 of the pixels within 2 of a boundary between classes "
        f"{_percent(metrics['boundary_mean_f1'])} %"
    )
    content = {
        **about,
        "label_set": result.label_set.name,
        "num_images": result.num_images,
        **json_safe(metrics),
        "confusion": result.confusion.tolist(),
        "worst": [
            {"name": record.name, "index": record.index, "mean_f1": record.score}
            for record in result.worst
        ],
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    atomic_file.write_text(out / "table.txt", table + "\n")
    atomic_file.write_bytes(
        out / "confusion.png", confusion_picture(result.confusion, result.label_set)
    )
    if result.worst:
        sheet = worst_sheet(result.worst, result.label_set)
        atomic_file.write_bytes(out / "worst.png", visualization.png_bytes(sheet))
    # A run whose folder has it is finished.
    atomic_file.write_text(out / "metrics.json", text + "\n")
    return table
