"""Wrong labels on purpose, for studies of how training bears them (arXiv 2203.14448, 3.4)."""

import cv2
import numpy as np

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.subset import read_label

# Standard deviation of a boundary's displacement, as a share of the label map's longer side.
_SHIFT = 1 / 64
_CELLS = 8
_DROP_PROBABILITY = 0.25


class NoisyLabelSource:
    """A source in which a share of the photographs has wrong labels, the same at every reading.

    Args:
      source: the photographs, see `sources`.
      label_set: meaning of the labels.
      share: of the photographs that are spoiled, 0 to 1, rounded to a whole number of them.
      seed: which ones, and how.
    """

    def __init__(self, source, label_set: LabelSet, share: float, seed: int):
        """Draws which photographs are spoiled; nothing is read."""
        self._source = source
        self._label_set = label_set
        self._seed = seed
        order = np.random.default_rng((seed, 0)).permutation(len(source))
        self._spoiled = frozenset(order[: round(share * len(source))].tolist())

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict:
        """Reads example `index`; its image is never changed."""
        example = self._source[index]
        return example | {"label": self._noisy(example["label"], index)}

    def label(self, index: int) -> np.ndarray:
        """Reads the label map of example `index` alone, uint8 `[h, w]`."""
        return self._noisy(read_label(self._source, index), index)

    def _noisy(self, label: np.ndarray, index: int) -> np.ndarray:
        if index not in self._spoiled:
            return label
        return spoil(label, self._label_set, np.random.default_rng((self._seed, 1, index)))


def spoil(label: np.ndarray, label_set: LabelSet, rng: np.random.Generator) -> np.ndarray:
    """Returns a label map as a careless annotator would have left it.

    All boundaries wander by about a 64th of the longer side. Then, with equal chance, left and
    right are exchanged, or every part is dropped with a probability of a quarter: it takes the
    class that touches it most.

    Args:
      label: uint8 `[h, w]`.
      label_set: meaning of the labels; its background is never dropped, ignored pixels wander too.
      rng: of the draws.
    """
    label = _wander(label, rng)
    if rng.random() < 0.5:
        return cv2.LUT(label, label_set.mirror_table())
    dropped = rng.random(label_set.num_classes) < _DROP_PROBABILITY
    for part in label_set.mean_f1_classes:
        if dropped[part]:
            label = _without(label, part)
    return label


def _wander(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = label.shape
    coarse = rng.standard_normal((_CELLS, _CELLS, 2)).astype(np.float32)
    coarse *= _SHIFT * max(height, width)
    shift = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    # The edge's own labels go on beyond it.
    return cv2.remap(
        label, x + shift[..., 0], y + shift[..., 1], cv2.INTER_NEAREST, None, cv2.BORDER_REPLICATE
    )


def _without(label: np.ndarray, part: int) -> np.ndarray:
    inside = label == part
    around = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~inside
    if not around.any():  # The part is absent, or there is nothing else.
        return label
    return np.where(inside, np.uint8(np.bincount(label[around]).argmax()), label)
