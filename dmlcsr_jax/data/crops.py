"""Views of a face instead of a whole photograph.

A crop is only another matrix: where whole images are shown by `warp.fit_matrix`, a crop is
shown by `crop_matrix`, and predictions find back to the original pixels by the same way.
"""

from typing import Any

import numpy as np

from dmlcsr_jax.errors import UserError


class CroppedSource:
    """A source whose examples are to be shown as crops around their faces.

    The photographs stay whole, so that turned views show what there is beside the crop, and
    predictions are compared at the photographs' size; what the crop does not show is background.

    Args:
      source: gives "box", as `prepared.PreparedSource` does.
      margin: as in `crop_matrix`.

    Raises:
      UserError: on creation, where the margin is negative; on reading, where there is no box.
    """

    def __init__(self, source, margin: float):
        """Keeps the arguments."""
        _check_margin(margin)
        self._source = source
        self._margin = margin

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads example `index`, with "crop": float64 `[4]`, the edges of what is to be shown."""
        example = self._source[index]
        if "box" not in example:
            raise UserError(
                f"{example['name']} has no face box to crop by; prepare the set by "
                "`python -m dmlcsr_jax.data.prepare`, or leave whole images."
            )
        reach = self._margin * np.repeat(_longer_side(example["box"]), 4) * (-1, -1, 1, 1)
        return example | {"crop": example["box"] + reach}


def crop_matrix(box: np.ndarray, margin: float, size: int) -> np.ndarray:
    """Returns the matrix that shows a face and what surrounds it, centred in a square input.

    Args:
      box: float `[4]`, left, top, right and bottom edge of the face, in pixels of the photograph
        with pixel centres at whole numbers; a box of `(-0.5, -0.5, w - 0.5, h - 0.5)` is a whole
        photograph.
      margin: what is shown beyond the box on each side, as a share of the box's longer side.
      size: side of the input, pixels.

    Returns:
      float64 `[2, 3]`, source pixel to input pixel, as all matrices of `warp`.

    Raises:
      UserError: where the margin is negative or the box is empty.
    """
    box = np.asarray(box, np.float64)
    _check_margin(margin)
    scale = size / (_longer_side(box) * (1 + 2 * margin))
    centre = (box[:2] + box[2:]) / 2
    offset = (size - 1) / 2 - scale * centre
    return np.concatenate([np.eye(2) * scale, offset[:, None]], axis=1)


def _longer_side(box: np.ndarray) -> float:
    longer = (box[2:] - box[:2]).max()
    if not longer > 0:
        raise UserError(f"the face box {box.tolist()} is empty; its right and bottom come last.")
    return longer


def _check_margin(margin: float):
    if not margin >= 0:
        raise UserError(f"the crop's margin is {margin}; it must be 0 or more.")
