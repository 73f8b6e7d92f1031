"""Photographs of rare classes shown more often."""

import concurrent.futures

import numpy as np

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.subset import SubsetSource, read_label
from dmlcsr_jax.data.workers import num_cores


class BalancedSource(SubsetSource):
    """A source in which photographs with rare classes come several times.

    Repeat-factor sampling (arXiv 1908.03195): a class in a share f of the photographs asks for
    `max(1, sqrt(threshold / f))` showings of each that has it, a photograph gets the most that one
    of its classes asks for. What is left beyond a whole number is drawn once and for all.

    Args:
      source: the photographs, see `sources`.
      label_set: meaning of the labels.
      threshold: share of the photographs below which a class is rare, above 0 and at most 1.
      seed: of the draws.

    Raises:
      UserError: where an example cannot be read.
    """

    def __init__(self, source, label_set: LabelSet, threshold: float, seed: int):
        """Reads every label map once."""
        with concurrent.futures.ThreadPoolExecutor(2 * num_cores()) as pool:
            labels = pool.map(
                lambda index: np.unique(read_label(source, index)), range(len(source))
            )
            present = np.zeros((len(source), 256), bool)
            for row, classes in zip(present, labels, strict=True):
                row[classes] = True
        repeats = repeat_factors(present[:, : label_set.num_classes], threshold)
        drawn = np.random.default_rng(seed).random(len(source))
        counts = np.floor(repeats + drawn).astype(int)
        super().__init__(source, np.repeat(np.arange(len(source)), counts))


def repeat_factors(present: np.ndarray, threshold: float) -> np.ndarray:
    """Returns float64 `[N]`, 1 or more: how often each photograph is to be shown.

    Args:
      present: bool `[N, C]`, the classes of each photograph.
      threshold: as of `BalancedSource`.
    """
    share = np.maximum(present.mean(0), 1 / max(len(present), 1))
    factors = np.maximum(1, np.sqrt(threshold / share))
    return np.where(present, factors, 1).max(1)
