"""Some of a source's photographs."""

from collections.abc import Sequence

import numpy as np

from dmlcsr_jax.errors import UserError


class SubsetSource:
    """A source of chosen examples of another, in a chosen order, some perhaps several times.

    Args:
      source: the photographs, see `sources`.
      indices: of the examples in `source`.
    """

    def __init__(self, source, indices: Sequence[int]):
        self._source = source
        self._indices = np.asarray(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict:
        """Reads example `index` of those chosen."""
        return self._source[int(self._indices[index])]

    def label(self, index: int) -> np.ndarray:
        """Reads the label map of example `index` alone, uint8 `[h, w]`."""
        return read_label(self._source, int(self._indices[index]))


def draw_subset(source, count: int, seed: int) -> SubsetSource:
    """Draws `count` examples; with the same seed a larger count has those of a smaller one.

    Raises:
      UserError: where there are fewer.
    """
    if count > len(source):
        raise UserError(
            f"config.data.num_train_examples is {count}, but there are {len(source)} training "
            "examples; give at most as many, or 0 for all."
        )
    return SubsetSource(source, np.random.default_rng(seed).permutation(len(source))[:count])


def read_label(source, index: int) -> np.ndarray:
    """Returns the label map of an example, read alone where the source can do so."""
    return source.label(index) if hasattr(source, "label") else source[index]["label"]
