"""How much of its surroundings each face is shown with."""

import math

from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.errors import UserError

_DEFAULT_MARGIN = 0.4
_DEFAULT_WIDE_MARGIN = 0.8


def margins(
    metadata: Metadata, margin: float | None, wide_margin: float | None
) -> tuple[float, float]:
    """Returns the margins of a face's first and second view; 0 for the latter: there is none.

    Args:
      metadata: of the network.
      margin: as `FaceParser` takes it.
      wide_margin: as `FaceParser` takes it.

    Raises:
      UserError: where one is below 0 or not finite.
    """
    for each in (margin, wide_margin):
        if each is not None and not 0 <= each < math.inf:
            raise UserError(f"the margin is {each}; it must be 0 or more.")
    if margin is None:
        margin = _DEFAULT_MARGIN if metadata.crop_margin is None else metadata.crop_margin
    if wide_margin is None:
        wide_margin = _DEFAULT_WIDE_MARGIN if metadata.crop_margin is None else 0.0
    return margin, wide_margin if wide_margin > margin else 0.0
