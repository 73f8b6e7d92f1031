"""Counts of true and predicted classes, for the measuring scripts of this folder."""

import numpy as np


def confusion_matrix(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_label: int = 255
) -> np.ndarray:
    """Counts pixels by true and predicted class.

    Args:
      label: integers of any shape, 0 to `num_classes - 1`, and `ignore_label`.
      prediction: integers of the same shape, 0 to `num_classes - 1` where the label counts.
      num_classes: number of classes.
      ignore_label: label of pixels that do not count.

    Returns:
      int64 `[num_classes, num_classes]`; row: true class, column: predicted class.
    """
    counted = label != ignore_label
    pairs = num_classes * label[counted].astype(np.int64) + prediction[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
