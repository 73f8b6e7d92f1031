"""One label map of a photograph, made of the scores of its views as they come."""

import threading

import numpy as np

from dmlcsr_jax.data import unwarp

_BACKGROUND = 0
# The deviation of the weight that a view has about its middle, as a share of its side.
_CLOSE = 0.4


class Composite:
    """What the views of one photograph say of its pixels, taken together.

    Where several views show a pixel, a part of a face outweighs the background, and of two parts
    the one that its view gives the higher probability, whichever view comes first; of equal ones
    that of the view with the lower number. Wide views count only where no close one shows the
    pixel. What no view shows is background. No more than one view's scores are looked at, a strip
    at a time.

    Attributes:
      label: uint8 `[H, W]`.
      owner: unsigned integers `[H, W]`, the number of the close view, or of the one whose face the
        wide view is of, that labelled the pixel, from 1; 0 where no view shows it.
      probability: float32 `[H, W]`, of the part that was asked for; None for none.
    """

    def __init__(
        self, hw: tuple[int, int], num_views: int, *, num_close: int, part: int | None = None
    ):
        """Starts with background.

        Args:
          hw: height and width of the photograph, pixels.
          num_views: how many there will be.
          num_close: the first so many are close ones, the others wide ones of the same faces.
          part: a label whose probability is wanted too.
        """
        self.label = np.full(hw, _BACKGROUND, np.uint8)
        self.owner = np.zeros(hw, np.min_scalar_type(num_views))
        self.probability = None
        if part is not None:
            self.probability = np.full(hw, part == _BACKGROUND, np.float32)
        self._part = part
        self._num_close = num_close
        # A view that is alone need not be compared.
        self._claim = np.zeros(hw, np.float32) if num_views > 1 else None
        self._lock = threading.Lock()

    def set(self, label: np.ndarray) -> None:
        """Takes uint8 `[H, W]` as what a view of the complete photograph, the only one, says."""
        self.label = label
        self.owner[:] = 1

    def add(self, view: int, scores: np.ndarray, matrix: np.ndarray, are_logits: bool) -> None:
        """Adds what a view says; views may come in any order, from several threads.

        Args:
          view: its number, from 1.
          scores: float32 `[S, S, C]`: logits or probabilities, on the input grid.
          matrix: float64 `[2, 3]`, photograph pixel to input pixel.
          are_logits: which of the two `scores` are.
        """
        is_close = view <= self._num_close
        number = view if is_close else view - self._num_close
        for place, strip, shown in unwarp.strips(scores, matrix, self.label.shape):
            label = np.argmax(strip, axis=-1).astype(np.uint8)
            probability = None
            if self._claim is not None or self._part is not None:
                total = _exp(strip).sum(axis=-1) if are_logits else None
                probability = _probability(strip, label, total)
            with self._lock:
                wins = shown
                if self._claim is not None:
                    # Parts claim above 1, the background below; close views above wide ones.
                    claim = probability * _closeness(matrix, scores.shape[0], place)
                    claim += (label != _BACKGROUND) + np.float32(2 * is_close)
                    held, owner = self._claim[place], self.owner[place]
                    wins = shown & ((claim > held) | ((claim == held) & (number < owner)))
                    np.copyto(held, claim, where=wins)
                np.copyto(self.label[place], label, where=wins)
                np.copyto(self.owner[place], number, where=wins, casting="unsafe")
                if self._part is not None:
                    part = _probability(strip, np.full_like(label, self._part), total)
                    np.copyto(self.probability[place], part, where=wins)


def _closeness(matrix: np.ndarray, size: int, place: tuple[slice, slice]) -> np.ndarray:
    """Returns float32 `[h, w]`, 0 to 1: how close a strip's pixels are to the middle of a view."""
    rows, columns = (np.arange(part.start, part.stop) for part in place)
    middle = (size - 1) / 2
    x, y = (
        of_x * columns + (of_y * rows + offset - middle)[:, None] for of_x, of_y, offset in matrix
    )
    return np.exp(-(x**2 + y**2) / (2 * (_CLOSE * size) ** 2)).astype(np.float32)


def _exp(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits - logits.max(axis=-1, keepdims=True))


def _probability(strip: np.ndarray, label: np.ndarray, total: np.ndarray | None) -> np.ndarray:
    """Returns float32 `[h, w]`: the probability that a strip gives each pixel's `label`.

    `total` is the sum of the logits' exponentials over their greatest's; None for probabilities.
    """
    at_label = np.take_along_axis(strip, label[..., None], axis=-1)[..., 0]
    if total is None:
        return at_label
    return np.exp(at_label - strip.max(axis=-1)) / total
