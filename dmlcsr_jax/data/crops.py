"""Views of a face instead of a whole photograph.

A crop is only another matrix: where whole images are shown by `transforms.fit_matrix`, a crop is
shown by `crop_matrix`, and predictions find back to the original pixels by the same way.
"""

import numpy as np

from dmlcsr_jax.errors import UserError


def crop_matrix(box: np.ndarray, margin: float, size: int) -> np.ndarray:
    """Returns the matrix that shows a face and what surrounds it, centred in a square input.

    Args:
      box: float `[4]`, left, top, right and bottom edge of the face, in pixels of the photograph
        with pixel centres at whole numbers; a box of `(-0.5, -0.5, w - 0.5, h - 0.5)` is a whole
        photograph.
      margin: what is shown beyond the box on each side, as a share of the box's longer side.
      size: side of the input, pixels.

    Returns:
      float64 `[2, 3]`, source pixel to input pixel, as all matrices of `transforms`.

    Raises:
      UserError: where the margin is negative or the box is empty.
    """
    box = np.asarray(box, np.float64)
    side = _side(box, margin)
    scale = size / side
    centre = (box[:2] + box[2:]) / 2
    offset = (size - 1) / 2 - scale * centre
    return np.concatenate([np.eye(2) * scale, offset[:, None]], axis=1)


def _side(box: np.ndarray, margin: float) -> float:
    """Returns the side of the square that a crop shows, pixels of the photograph."""
    if not margin >= 0:
        raise UserError(f"the crop's margin is {margin}; it must be 0 or more.")
    longer = (box[2:] - box[:2]).max()
    if not longer > 0:
        raise UserError(f"the face box {box.tolist()} is empty; its right and bottom come last.")
    return longer * (1 + 2 * margin)
