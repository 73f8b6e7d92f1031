"""Pictures that move, GIF and WebP: told from still ones, and read frame by frame."""

import contextlib
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import PIL.Image
import PIL.ImageSequence
from etils import epath

from dmlcsr_jax.data.decode import open_regular
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError

SUFFIXES = (".gif", ".webp")
_WEBP_ANIMATION_FLAG = 0x02
# Viewers show a frame that has no time for as long.
_DEFAULT_MILLISECONDS = 100


def is_animated(path: epath.PathLike) -> bool:
    """Returns whether a local file is a GIF or WebP of several frames, by its structure alone.

    Nothing is decoded; of what is damaged or no such file it is false.
    """
    if not os.fspath(path).lower().endswith(SUFFIXES) or "://" in os.fspath(path):
        return False
    try:
        with open_regular(path) as file:
            header = file.read(21)
            if header[:4] == b"RIFF" and header[8:16] == b"WEBPVP8X":
                return len(header) == 21 and bool(header[20] & _WEBP_ANIMATION_FLAG)
            return header[:6] in (b"GIF87a", b"GIF89a") and _has_two_images(file)
    except (UserError, OSError, IndexError):
        return False


def _has_two_images(file: BinaryIO) -> bool:
    """Returns whether a GIF has a second image; raises IndexError where it is cut off."""
    file.seek(10)
    _skip_colours(file, file.read(1)[0], offset=2)
    count = 0
    while True:
        kind = file.read(1)
        if kind == b",":
            count += 1
            if count == 2:
                return True
            place = file.read(9)
            _skip_colours(file, place[8], offset=1)
        elif kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            return False
        while length := file.read(1)[0]:
            file.seek(length, os.SEEK_CUR)


def _skip_colours(file: BinaryIO, flags: int, offset: int) -> None:
    colours = 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
    file.seek(colours + offset, os.SEEK_CUR)


def frames(path: pathlib.Path, limits: Limits) -> Iterator[tuple[np.ndarray, float]]:
    """Yields each frame, uint8 `[H, W, 3]` RGB, transparency dropped, and its seconds.

    One frame is in memory at a time.

    Raises:
      UserError: where the file cannot be read, breaks off, is beyond a limit, or a frame is larger
        than the picture that it is a part of.
    """
    try:
        with _bounded(limits), open_regular(path) as file, _open(file) as picture:
            size = picture.size
            for frame in PIL.ImageSequence.Iterator(picture):
                if frame.size != size:
                    raise UserError(
                        f"{path} has a frame that exceeds the picture's {size[0]}x{size[1]} "
                        "pixels; it is damaged, or made to do that: leave it out."
                    )
                pixels = np.ascontiguousarray(np.asarray(frame.convert("RGBA"))[..., :3])
                # Known once the frame is decoded.
                milliseconds = frame.info.get("duration") or _DEFAULT_MILLISECONDS
                yield pixels, milliseconds / 1000
    except UserError:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise UserError(
            f"{path} has more pixels than the limit of {limits.pixels:,}; make it smaller, or "
            "raise the limit (--max_pixels)."
        ) from error
    # Decoders may raise any exception for malformed bytes.
    except Exception as error:
        raise UserError(f"{path} is damaged ({error}); replace it or leave it out.") from error


def _open(file: BinaryIO) -> PIL.Image.Image:
    return PIL.Image.open(file, formats=("GIF", "WEBP"))


@contextlib.contextmanager
def _bounded(limits: Limits) -> Iterator[None]:
    """Has Pillow refuse what a frame grows to before it takes memory; for this whole process."""
    before = PIL.Image.MAX_IMAGE_PIXELS
    # Pillow refuses at twice that number, and warns in between.
    PIL.Image.MAX_IMAGE_PIXELS = limits.pixels / 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = before
