"""HEIC photographs, as telephones take them; needs the extra `heic`."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps

from dmlcsr_jax.errors import UserError

SUFFIXES = (".heic", ".heif")
FORMAT = "HEIF"
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_heic(data: bytes) -> bool:
    """Returns whether an encoded picture is HEIC."""
    # Of AVIF, the brand of the file is avif.
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS


def register(name: str) -> None:
    """Lets Pillow open HEIC.

    Args:
      name: the file's, for the error.

    Raises:
      UserError: where the extra is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise UserError(
            f"{name} is HEIC, which needs the package pillow-heif; pip install pillow-heif, or "
            "save the photograph as JPEG."
        ) from error
    pillow_heif.register_heif_opener()


def decode(data: bytes, name: str) -> np.ndarray:
    """Returns a HEIC photograph in its orientation, after `register`.

    Args:
      data: the file's bytes.
      name: the file's, for the error.

    Returns:
      uint8 `[H, W, 3]` RGB.

    Raises:
      UserError: where the data are damaged.
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=(FORMAT,)) as picture:
            return np.array(PIL.ImageOps.exif_transpose(picture).convert("RGB"))
    # Decoders may raise any exception for malformed bytes.
    except Exception as error:
        raise UserError(f"{name} is damaged ({error}); replace it.") from error
