"""What a caller hands over as a photograph, as an array."""

import os
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.check_image import check_image
from dmlcsr_jax.predict.photographs import read_photograph


def as_image(photograph: Any) -> tuple[np.ndarray, str]:
    """Returns a photograph as uint8 `[H, W, 3]` RGB, and what it is called.

    Args:
      photograph: a path; a picture of Pillow, whose EXIF orientation is applied, transparency
        dropped and 16 bits reduced to 8; or uint8 `[H, W, 3]` RGB, taken as it is. Of a picture
        that moves, the frame it stands at, of a file the first one.

    Raises:
      UserError: where it is something else, or cannot be read.
    """
    if isinstance(photograph, PIL.Image.Image):
        return _from_pillow(photograph), str(getattr(photograph, "filename", ""))
    if isinstance(photograph, str | os.PathLike):
        path = os.fspath(photograph)
        if path.startswith(("http://", "https://", "ftp://")):
            raise UserError(f"{path} is an address; download the photograph and give its file.")
        return read_photograph(path), path
    check_image(photograph)
    return photograph, ""


def _from_pillow(picture: PIL.Image.Image) -> np.ndarray:
    try:
        picture = PIL.ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):
            values = np.asarray(picture)
            # 16 bits are opened in the mode I too.
            image = np.clip(values >> 8, 0, 255).astype(np.uint8)
            return np.repeat(image[..., None], 3, axis=2)
        if picture.mode == "F":
            raise UserError("a picture of floats is no photograph; convert it to uint8 RGB.")
        image = np.array(picture.convert("RGBA" if picture.mode == "P" else "RGB"))[..., :3]
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        name = getattr(picture, "filename", "") or "the picture"
        raise UserError(f"{name} cannot be read ({error}); replace it.") from error
    check_image(image)
    return np.ascontiguousarray(image)
