"""What a decoder process does with a photograph."""

import contextlib
import os
from collections.abc import Callable, Iterator

import numpy as np
from etils import epath

from dmlcsr_jax.data.decode import decode_checked_image, fingerprint, picture_size, read_bytes
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError

# Cameras write bytes that belong to nothing, which harms no pixel.
_HARMLESS = b"extraneous bytes"
_JPEG_WARNING = b"Corrupt JPEG data"


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
      UserError: as `read_bytes`, `picture_size` and `decode_covered_image`.
    """
    data = source if isinstance(source, bytes) else read_bytes(source, limits)
    yield fingerprint(data), picture_size(data, name, limits)
    yield decode_covered_image(data, name)


def decode_covered_image(data: bytes, name: str) -> np.ndarray:
    """Returns what `decode_checked_image` does; refuses a JPEG whose data do not cover its pixels.

    The decoder says so on stderr alone, which is therefore read meanwhile: it is for processes
    without other threads that write there.

    Raises:
      UserError: as `decode_checked_image`, and where a JPEG lacks a part from its middle.
    """
    with _stderr_read() as messages:
        image = decode_checked_image(data, name)
    for line in messages().splitlines():
        if line.startswith(_JPEG_WARNING) and _HARMLESS not in line:
            raise UserError(
                f"{name} lacks a part of its data ({line.decode(errors='replace')}); replace it "
                "or take it off the list."
            )
    return image


@contextlib.contextmanager
def _stderr_read() -> Iterator[Callable[[], bytes]]:
    """Keeps what is written to stderr, also by libraries, and gives a function that returns it.

    Of very much, the beginning.
    """
    text = b""
    before = os.dup(2)
    ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.dup2(theirs, 2)
    os.close(theirs)
    try:
        yield lambda: text
    finally:
        os.dup2(before, 2)
        os.close(before)
        with contextlib.suppress(BlockingIOError):
            text = os.read(ours, 2**16)
        os.close(ours)
