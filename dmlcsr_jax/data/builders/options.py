"""What a user may choose when a set is prepared."""

import dataclasses
from typing import Any

from dmlcsr_jax.data.builders.examples import Encoding
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError

# Figures are always at original size, so that only the training photographs are ever reduced.
_REDUCED_SPLIT = "train"


@dataclasses.dataclass(frozen=True)
class Options:
    """Choices for one set.

    Attributes:
      max_side: the training photographs' longer sides above this many pixels are reduced to it;
        None keeps every size. Other splits are never reduced.
      jpeg_quality: every photograph is encoded anew as JPEG of this quality, 1 to 100; None keeps
        the authors' bytes, and gives reduced photographs quality 95.
      allow_partial: takes a set whose counts are not the official ones, and leaves out images that
        lack their label.
      label_set: meaning of the labels, for a set that does not say it itself (`Folder`).
      val_fraction: share of the validation split, for a set without splits (`FaceSynthetics`).
      test_fraction: share of the test split, for such a set.
      split_seed: which images fall into which split, for such a set.

    Raises:
      UserError: on creation, where a value is impossible.
    """

    max_side: int | None = None
    jpeg_quality: int | None = None
    allow_partial: bool = False
    label_set: LabelSet | None = None
    val_fraction: float = 0.05
    test_fraction: float = 0.05
    split_seed: int = 0

    def __post_init__(self):
        """Checks the values."""
        if self.max_side is not None and self.max_side < 1:
            raise UserError(f"--max_side is {self.max_side}; it must be 1 pixel or more.")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise UserError(f"--jpeg_quality is {self.jpeg_quality}; it must be 1 to 100.")
        val, test = self.val_fraction, self.test_fraction
        if not (val >= 0 and test >= 0 and val + test <= 1):
            raise UserError(
                f"--val_fraction and --test_fraction are {val} and {test}; they must be 0 or more "
                "and at most 1 together."
            )
        if self.split_seed < 0:
            raise UserError(f"--split_seed is {self.split_seed}; it must be 0 or more.")

    def encoding(self, split: str) -> Encoding:
        """Returns how the photographs of a split are stored."""
        return Encoding(self.max_side if split == _REDUCED_SPLIT else None, self.jpeg_quality)

    def to_json(self) -> dict[str, Any]:
        """Returns those choices that change what a prepared set holds, as a JSON-ready dict."""
        return {
            "max_side": self.max_side,
            "jpeg_quality": self.jpeg_quality,
            "val_fraction": self.val_fraction,
            "test_fraction": self.test_fraction,
            "split_seed": self.split_seed,
        }
