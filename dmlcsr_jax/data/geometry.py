"""Where a view lies in a photograph: matrices of crops, of photographs, and between sizes.

A matrix is float64 `[2, 3]` and maps source pixel coordinates `(x, y, 1)` to input pixel
coordinates, pixel centres at whole numbers as in OpenCV. Scaling is aligned at the image's edges,
not at the pixel centres: pixel `x` covers `[x - 0.5, x + 0.5]`.

A crop is a box of the photograph and the photograph is a box too: `box_matrix` makes both matrices.
Photographs are never cut, so that turned views show what there is beside a crop, and predictions
are compared at the photographs' size; what a crop does not show is background.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dmlcsr_jax.errors import UserError


def photograph_box(hw: tuple[int, int]) -> np.ndarray:
    """Returns float64 `[4]`: the box of a photograph of height and width `hw`, see `box_matrix`."""
    return np.array([-0.5, -0.5, hw[1] - 0.5, hw[0] - 0.5])


def shown_box(example: Mapping[str, Any], crop_margin: float | None) -> np.ndarray:
    """Returns the box of what is shown of an example: its face, or the photograph.

    Args:
      example: "image" uint8 `[H, W, 3]`; "name"; "box" where there is a `crop_margin`, as
        `prepared.PreparedSource` gives it.
      crop_margin: None where the photograph is shown.

    Returns:
      float64 `[4]`, for `box_matrix`.

    Raises:
      UserError: where a crop is asked for and there is no box.
    """
    if crop_margin is None:
        return photograph_box(example["image"].shape[:2])
    if "box" not in example:
        raise UserError(
            f"{example['name']} has no face box to crop by; prepare the set by "
            "`python -m dmlcsr_jax.data.prepare`, or leave config.data.crop_margin unset."
        )
    return example["box"]


def box_matrix(
    box: np.ndarray,
    size: int,
    *,
    margin: float = 0.0,
    scale: float = 1.0,
    angle: float = 0.0,
    mirror: bool = False,
) -> np.ndarray:
    """Returns the matrix that shows a box and its margin, centred, aspect kept, in a square input.

    Args:
      box: float `[4]`, left, top, right and bottom edge in pixels of the image, pixel centres at
        whole numbers: `(-0.5, -0.5, w - 0.5, h - 0.5)` is the photograph itself.
      size: side of the input, pixels.
      margin: what is shown beyond the box on each side, as a share of the box's longer side, 0 or
        more. The longer side with its margins fills the input.
      scale: factor on top of that, about the box's centre.
      angle: rotation about the box's centre, radians.
      mirror: whether the view is mirrored left to right; the determinant is negative then.

    Returns:
      float64 `[2, 3]`, image pixel to input pixel.

    Raises:
      UserError: where the box is empty.
    """
    box = np.asarray(box, np.float64)
    longer = (box[2:] - box[:2]).max()
    if not longer > 0:
        raise UserError(f"the face box {box.tolist()} is empty; its right and bottom come last.")
    scale = scale * size / (longer * (1 + 2 * margin))
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    flip = -1 if mirror else 1
    linear = np.array([[flip * cos, -flip * sin], [sin, cos]])
    centre = (box[:2] + box[2:]) / 2
    offset = (size - 1) / 2 - linear @ centre
    return np.concatenate([linear, offset[:, None]], axis=1)


def change_source(
    matrix: np.ndarray, old_hw: tuple[int, int], new_hw: tuple[int, int]
) -> np.ndarray:
    """Returns the same view as a matrix for the same picture at another resolution.

    Args:
      matrix: float64 `[2, 3]` for a source of `old_hw`.
      old_hw: height and width that `matrix` is for, pixels.
      new_hw: height and width of the other resolution, pixels.

    Returns:
      float64 `[2, 3]` that puts every point of the picture where `matrix` puts it.
    """
    scale = np.array([old_hw[1] / new_hw[1], old_hw[0] / new_hw[0]])
    # Old pixel coordinate = (new + 0.5) * scale - 0.5.
    offset = matrix[:, :2] @ (0.5 * scale - 0.5) + matrix[:, 2]
    return np.concatenate([matrix[:, :2] * scale, offset[:, None]], axis=1)


def is_mirrored(matrix: np.ndarray) -> bool:
    """Returns whether the view that a matrix gives is mirrored."""
    return bool(matrix[0, 0] * matrix[1, 1] < matrix[0, 1] * matrix[1, 0])
