"""A mask, hard or soft, that is cleaned, grown and feathered, in this order."""

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

    def softened(self, alpha: np.ndarray) -> np.ndarray:
        """Returns float32 `[H, W]`, 0 to 1: a soft mask cleaned, grown and feathered.

        What belongs to a removed island, or hole, is what is nearest to it where alpha is cut at a
        half; a feather is a Gaussian with a ramp's variance.

        Args:
          alpha: float32 `[H, W]`, 0 to 1.
        """
        if self.clean:
            alpha = _cleaned_soft(alpha, self.clean)
        side = max(alpha.shape)
        by, over = length(self.grow, "grow", side), length(self.feather, "feather", side)
        if by:
            alpha = _grown_soft(alpha, by)
        if over:
            deviation = over / 12**0.5
            alpha = cv2.GaussianBlur(alpha, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)
        return np.clip(alpha, 0, 1)


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


def around(mask: np.ndarray, beyond: int) -> tuple[slice, slice]:
    """Returns the rows and columns of the box around a mask, and of some pixels beyond it."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return (
        slice(max(0, y - beyond), y + height + beyond),
        slice(max(0, x - beyond), x + width + beyond),
    )


def _cleaned_soft(alpha: np.ndarray, share: float) -> np.ndarray:
    """Returns float32 `[H, W]`: as `cleaned`, with the soft edges of what is removed."""
    hard = alpha >= 0.5
    kept = cleaned(hard, share)
    for changed, others, value in ((hard & ~kept, kept, 0), (kept & ~hard, ~kept, 1)):
        if changed.any():
            alpha = np.where(_distance(changed) > _distance(others), np.float32(value), alpha)
    return alpha


def _grown_soft(alpha: np.ndarray, by: float) -> np.ndarray:
    """Returns float32 `[H, W]`, whose every level is as `grown` makes it of a hard mask."""
    box = around(alpha > 0, math.ceil(abs(by)) + 2)
    inside, found = alpha[box], np.zeros_like(alpha)
    if by > 0:
        found[box] = _highest(inside, by + 0.5)
    else:
        found[box] = 1 - _highest(1 - inside, np.nextafter(0.5 - by, np.inf))
    return found


def _highest(values: np.ndarray, reach: float) -> np.ndarray:
    """Returns float32 `[H, W]`: the highest of the values that are nearer than `reach` pixels."""
    most = min(math.ceil(reach) - 1, len(values) - 1)
    found = values.copy()
    for rows in range(most + 1):
        aside = min(math.ceil(math.sqrt(reach**2 - rows**2)) - 1, values.shape[1] - 1)
        # A row of a disc at a time: OpenCV takes as long for a wide row as for a narrow one.
        highest = cv2.dilate(values, np.ones((1, 2 * aside + 1), np.uint8))
        upper, lower = slice(None, len(values) - rows), slice(rows, None)
        np.maximum(found[lower], highest[upper], out=found[lower])
        np.maximum(found[upper], highest[lower], out=found[upper])
    return found


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
