"""Soft masks: a part's probability, refined along the photograph's edges by closed-form matting.

docs/masks.md says what it was chosen from.
"""

import importlib.util

import cv2
import numpy as np

from dmlcsr_jax.errors import UserError

# Alpha is unknown where the probability lies between these, and this near to the mask's edge, as a
# share of the photograph's longer side.
_LOW, _HIGH = 0.05, 0.95
_BAND = 0.02
# Matting takes some kilobytes a pixel: larger photographs are reduced to this for it.
_MOST_PIXELS = 2**19


def require_matting() -> None:
    """Checks that the package is there.

    Raises:
      UserError: where it is not.
    """
    if importlib.util.find_spec("pymatting") is None:
        raise UserError("soft masks need the package pymatting: pip install pymatting.")


def refined(image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Returns float32 `[H, W]`, 0 to 1: how much of each pixel is of a part.

    Where the part is nowhere or everywhere, or the solver does not converge, it is the probability.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      probability: float32 `[H, W]`, 0 to 1.

    Raises:
      UserError: as `require_matting`.
    """
    require_matting()
    import pymatting  # Here: its import compiles, for up to half a minute.

    hw = probability.shape
    scale = min(1.0, (_MOST_PIXELS / (hw[0] * hw[1])) ** 0.5)
    if scale < 1:
        size = [max(1, round(scale * side)) for side in reversed(hw)]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        probability = cv2.resize(probability, size, interpolation=cv2.INTER_AREA)
    known = trimap(probability)
    alpha = probability
    if (known == 1).any() and (known == 0).any() and (known == 0.5).any():
        try:
            alpha = pymatting.estimate_alpha_cf(image / 255, known).astype(np.float32)
        except ValueError:  # What it raises where it does not converge.
            alpha = probability
    if scale < 1:
        alpha = cv2.resize(alpha, hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(alpha, 0, 1)


def trimap(probability: np.ndarray, band: float = _BAND) -> np.ndarray:
    """Returns float64 `[H, W]`: 1 in the part, 0 outside, 0.5 where alpha is to be found.

    Args:
      probability: `[H, W]`, 0 to 1.
      band: half the width of what is unknown about the edge, as a share of the longer side.
    """
    radius = max(1, round(band * max(probability.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    hard = (probability >= 0.5).astype(np.uint8)
    inner, outer = cv2.erode(hard, kernel) > 0, cv2.dilate(hard, kernel) > 0
    found = np.full(probability.shape, 0.5)
    found[inner & (probability > _HIGH)] = 1
    found[~outer & (probability < _LOW)] = 0
    return found
