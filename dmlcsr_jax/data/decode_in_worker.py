"""What a decoder process does with a photograph."""

from collections.abc import Iterator

import numpy as np
from etils import epath

from dmlcsr_jax.data.decode import decode_checked_image, fingerprint, picture_size, read_bytes
from dmlcsr_jax.data.limits import Limits


def photograph_steps(
    source: epath.Path | bytes, name: str, limits: Limits
) -> Iterator[tuple[str, tuple[int, int]] | np.ndarray]:
    """Reads a photograph, first what is cheap to know.

    Args:
      source: the file, or its bytes.
      name: for errors.
      limits: what the file may cost.

    Yields:
      The content's fingerprint with height and width before the EXIF orientation; then the pixels,
      as `decode_image` returns them.

    Raises:
      UserError: as `read_bytes`, `picture_size` and `decode_checked_image`.
    """
    data = source if isinstance(source, bytes) else read_bytes(source, limits)
    yield fingerprint(data), picture_size(data, name, limits)
    yield decode_checked_image(data, name)
