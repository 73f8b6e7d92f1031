"""Soft masks: a part's probability, refined along the photograph's edges by closed-form matting.

docs/masks.md says what it was chosen from.
"""

import importlib.util

import cv2
import numpy as np

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.mask_shape import around

# Alpha is unknown where the probability lies between these, and this near to the mask's edge, as a
# share of the photograph's longer side.
_LOW, _HIGH = 0.05, 0.95
_BAND = 0.02
# Matting takes some kilobytes a pixel, and seconds: what is around a larger part is reduced to
# this for it.
_MOST_PIXELS = 2**17
# How unlike the colours of neighbours are, as a variance, where alpha follows them.
_LEAST_VARIANCE = 1e-4


def require_matting() -> None:
    """Checks that the package is there.

    Raises:
      UserError: where it is not.
    """
    if importlib.util.find_spec("pymatting") is None:
        raise UserError("soft masks need the package pymatting: pip install pymatting.")


def refined(
    image: np.ndarray, probability: np.ndarray, most_pixels: int = _MOST_PIXELS
) -> np.ndarray:
    """Returns float32 `[H, W]`, 0 to 1: how much of each pixel is of a part.

    Where the part is nowhere, everywhere or narrower than what is unknown about its edge, or the
    solver does not converge, it is the probability.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      probability: float32 `[H, W]`, 0 to 1.
      most_pixels: that matting works on; more of them around the part are reduced to these, and
        alpha is enlarged along the photograph's edges.

    Raises:
      UserError: as `require_matting`.
    """
    require_matting()
    import pymatting  # Here: its import compiles, for up to half a minute.

    radius = _BAND * max(probability.shape)
    # Where the part may be, and some of where it is not.
    box = around(probability >= _LOW, 2 * round(radius) + 4)
    shown, wanted = image[box], probability[box]
    reduced, scale = shown, min(1.0, (most_pixels / max(wanted.size, 1)) ** 0.5)
    if scale < 1:
        size = [max(1, round(scale * side)) for side in reversed(wanted.shape)]
        reduced, wanted = (
            cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) for pixels in (shown, wanted)
        )
    known = trimap(wanted, scale * radius)
    if not all((known == value).any() for value in (0, 0.5, 1)):
        return np.clip(probability, 0, 1)
    try:
        alpha = pymatting.estimate_alpha_cf(reduced / 255, known).astype(np.float32)
    except ValueError:  # What it raises where it does not converge.
        return np.clip(probability, 0, 1)
    if scale < 1:
        alpha = _enlarged(alpha, reduced, shown)
    found = np.zeros(probability.shape, np.float32)
    found[box] = np.clip(alpha, 0, 1)
    return found


def trimap(probability: np.ndarray, radius: float) -> np.ndarray:
    """Returns float64 `[H, W]`: 1 in the part, 0 outside, 0.5 where alpha is to be found.

    Args:
      probability: `[H, W]`, 0 to 1.
      radius: half the width of what is unknown about the edge, in pixels.
    """
    radius = max(1, round(radius))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    hard = (probability >= 0.5).astype(np.uint8)
    inner, outer = cv2.erode(hard, kernel) > 0, cv2.dilate(hard, kernel) > 0
    found = np.full(probability.shape, 0.5)
    found[inner & (probability > _HIGH)] = 1
    found[~outer & (probability < _LOW)] = 0
    return found


def _enlarged(alpha: np.ndarray, reduced: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Returns float32 `[H, W]`: alpha that follows the colours as it does in the reduced image.

    It is He and Sun's fast guided filter (arXiv 1505.00996) with a colour guide: alpha is linear in
    the colour near each pixel, and the coefficients are enlarged rather than alpha.

    Args:
      alpha: float32 `[h, w]`.
      reduced: uint8 `[h, w, 3]` RGB.
      image: uint8 `[H, W, 3]` RGB.
    """

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (3, 3))

    guide = reduced.astype(np.float32) / 255
    colour, level = mean(guide), mean(alpha)
    covariance = [mean(guide * guide[..., [k]]) - colour * colour[..., [k]] for k in range(3)]
    covariance = np.stack(covariance, axis=-1) + _LEAST_VARIANCE * np.eye(3, dtype=np.float32)
    with_alpha = mean(guide * alpha[..., None]) - colour * level[..., None]
    slope = np.linalg.solve(covariance, with_alpha[..., None])[..., 0]
    offset = level - (slope * colour).sum(axis=-1)
    size = image.shape[1::-1]
    found = cv2.resize(mean(offset), size, interpolation=cv2.INTER_LINEAR)
    # A channel at a time: photographs may be large.
    for k, along in enumerate(cv2.split(mean(slope))):
        along = cv2.resize(along, size, interpolation=cv2.INTER_LINEAR)
        found += along * (image[..., k] / np.float32(255))
    return found
