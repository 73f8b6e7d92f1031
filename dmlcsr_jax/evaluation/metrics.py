"""Pixel-pooled metrics from one confusion matrix, on the host, in NumPy (method, "Metrics")."""

import math

import cv2
import numpy as np

from dmlcsr_jax.errors import UserError


def kinds_of_pixels(label, num_classes, ignore_label=255):
    """Tells pixels apart by class and by whether they are near a boundary.

    Args:
      label: uint8 `[H, W]`, 0 to `num_classes - 1`, and `ignore_label`.
      num_classes: number of classes, C.
      ignore_label: label of pixels that do not count.

    Returns:
      int16 `[H, W]`: the class, C more near a boundary (`near_boundary`), -1 where it is ignored.

    Raises:
      UserError: where a counted value is no class.
    """
    counted = label != ignore_label
    if (wrong := label[counted & (label >= num_classes)]).size:
        raise UserError(
            f"the label contains the value {wrong[0]}; with {num_classes} classes values must be "
            f"0 to {num_classes - 1} or the ignore label {ignore_label}."
        )
    near = near_boundary(label, ignore_label=ignore_label)
    return np.where(counted, label + np.int16(num_classes) * near, np.int16(-1))


def near_boundary(label, width=2, ignore_label=255):
    """Finds the pixels close to a boundary between two classes.

    Args:
      label: uint8 `[H, W]`.
      width: greatest distance to a pixel of another class, rows and columns counted apart, pixels.
      ignore_label: no class; neither near a boundary nor a side of one.

    Returns:
      bool `[H, W]`.
    """
    known = label != ignore_label
    kernel = np.ones((2 * width + 1,) * 2, np.uint8)
    highest = cv2.dilate(np.where(known, label, np.uint8(0)), kernel)
    lowest = cv2.erode(np.where(known, label, np.uint8(255)), kernel)
    return known & (highest != lowest)


def ratio(numerator, denominator):
    """Returns the quotient, NaN where there is nothing to divide by."""
    return float(numerator / denominator) if denominator else math.nan


def _scores(hit, truth, predicted):
    """Returns the scores of one class from its pixel counts."""
    return {
        "f1": ratio(2 * hit, truth + predicted),
        "iou": ratio(hit, truth + predicted - hit),
        "precision": ratio(hit, predicted),
        "recall": ratio(hit, truth),
    }


def _mean(values):
    """Returns the mean of the values that are defined, NaN where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return ratio(sum(defined), len(defined))


def summarize(matrix, label_set):
    """Turns a confusion matrix into the published scores.

    Scores are parts of 1. A class that is in neither truth nor prediction has no F1 and no IoU:
    they are NaN and are left out of the means. Precision is NaN without predicted pixels, recall
    without true ones. `json_safe` turns NaN into None for writing.

    Args:
      matrix: integer `[C, C]`, pixels by true (row) and predicted class.
      label_set: `LabelSet` of C classes.

    Returns:
      dict of
        classes: class name to dict of f1, iou, precision, recall, truth_pixels, predicted_pixels;
        groups: the same for each of the label set's merged groups: truth and prediction are the
          union of the group's classes, so confusion within the group is no error;
        mean_f1: mean over all classes but background;
        miou: mean over all classes;
        pixel_accuracy: part of the counted pixels predicted right;
        num_pixels: number of counted pixels, int.

    Raises:
      UserError: where the matrix has another number of classes than the label set.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (label_set.num_classes,) * 2:
        raise UserError(
            f"the confusion matrix has the shape {matrix.shape}, but the label set "
            f"{label_set.name} has {label_set.num_classes} classes; count with the same label set."
        )
    truth, predicted = matrix.sum(1), matrix.sum(0)

    def merged(labels):
        hit = matrix[np.ix_(labels, labels)].sum()
        counts = truth[labels].sum(), predicted[labels].sum()
        return _scores(hit, *counts) | {
            "truth_pixels": int(counts[0]),
            "predicted_pixels": int(counts[1]),
        }

    classes = {name: merged([i]) for i, name in enumerate(label_set.classes)}
    names = label_set.classes
    return {
        "classes": classes,
        "groups": {
            group: merged([names.index(name) for name in members])
            for group, members in label_set.groups.items()
        },
        "mean_f1": _mean(classes[names[i]]["f1"] for i in label_set.mean_f1_classes),
        "miou": _mean(scores["iou"] for scores in classes.values()),
        "pixel_accuracy": ratio(np.trace(matrix), matrix.sum()),
        "num_pixels": int(matrix.sum()),
    }


def json_safe(summary):
    """Returns the summary with None, which JSON knows, in the place of NaN, which it does not.

    Args:
      summary: dict of numbers and such dicts, as `summarize` returns it.
    """
    return {
        key: json_safe(value) if isinstance(value, dict) else (None if math.isnan(value) else value)
        for key, value in summary.items()
    }
