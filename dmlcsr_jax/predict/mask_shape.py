"""A mask that is cleaned, grown and feathered, in this order."""

import dataclasses
import math

import cv2
import numpy as np

from dmlcsr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is done to a mask; nothing by default.

    Attributes:
      grow: how far its edge moves outwards, in pixels, or as a share of the photograph's longer
        side in a text such as "1%"; inwards where it is negative.
      feather: over how much, across the edge and as `grow` says it, it rises from 0 to 1.
      clean: islands, and holes, of fewer pixels than this share of the mask's are removed; 0 to 1.

    Raises:
      UserError: on creation, where a value is impossible.
    """

    grow: float | str = 0
    feather: float | str = 0
    clean: float = 0.0

    def __post_init__(self):
        """Checks the values."""
        length(self.grow, "grow", 1000)
        if length(self.feather, "feather", 1000) < 0:
            raise UserError(f"feather is {self.feather}; it must be 0 or more.")
        if not 0 <= self.clean <= 1:
            raise UserError(f"clean is {self.clean}; it must be a share, 0 to 1.")

    def applied(self, mask: np.ndarray) -> np.ndarray:
        """Returns bool `[H, W]`: a bool mask cleaned and grown."""
        if self.clean:
            mask = cleaned(mask, self.clean)
        by = length(self.grow, "grow", max(mask.shape))
        return grown(mask, by) if by else mask

    def feathered(self, mask: np.ndarray) -> np.ndarray:
        """Returns uint8 `[H, W]`, 0 to 255: a bool mask cleaned, grown and feathered."""
        mask = self.applied(mask)
        over = length(self.feather, "feather", max(mask.shape))
        if not over:
            return mask.astype(np.uint8) * 255
        ramp = _distance(mask) / over + 0.5
        return np.rint(255 * np.clip(ramp, 0, 1, out=ramp)).astype(np.uint8)


def length(given: float | str, name: str, side: int) -> float:
    """Returns a length in pixels.

    Args:
      given: a number of pixels, also as a text; or a share of a side as a text such as "1%".
      name: what an error calls it.
      side: of the photograph, the longer one.

    Raises:
      UserError: where it is neither, is not finite, or is a share beyond 100 %.
    """
    text = str(given).strip()
    is_share = text.endswith("%")
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (is_share and abs(number) > 100):
        raise UserError(
            f"{name} is {given!r}; it must be a number of pixels such as 3, or a share of the "
            "photograph's longer side such as 1%."
        )
    return number * side / 100 if is_share else number


def grown(mask: np.ndarray, by: float) -> np.ndarray:
    """Returns a bool mask whose edge lies `by` pixels further out, or in where it is negative."""
    return _distance(mask) > -by


def cleaned(mask: np.ndarray, share: float) -> np.ndarray:
    """Returns a bool mask without small islands, and then without small holes.

    Args:
      mask: bool `[H, W]`.
      share: of the mask's pixels, below which an island or a hole is removed; the largest island
        stays. What touches the photograph's border is no hole.
    """
    least = share * np.count_nonzero(mask)
    area, piece = _pieces(mask, 8)
    is_kept = area >= min(least, area[1:].max(initial=0))
    is_kept[0] = False
    mask = is_kept[piece]
    area, piece = _pieces(~mask, 4)
    is_hole = area < least
    is_hole[0] = False
    for border in (piece[0], piece[-1], piece[:, 0], piece[:, -1]):
        is_hole[border] = False
    return mask | is_hole[piece]


def _pieces(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels of each connected piece, of what is none first, and the pieces' map."""
    count, piece = cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)
    return np.bincount(piece.ravel(), minlength=count), piece


def _distance(mask: np.ndarray) -> np.ndarray:
    """Returns float32 `[H, W]`: pixels from the edge to a pixel's middle, negative outside."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf if mask.all() else -np.inf, np.float32)
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.where(mask, inside - 0.5, 0.5 - outside)
