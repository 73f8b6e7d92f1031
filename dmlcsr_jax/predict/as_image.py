"""What a caller hands over as a photograph, as an array."""

import os
import sys
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from dmlcsr_jax.data.decode import decode_image
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.photographs import read_photograph

KINDS = (
    "a path, encoded bytes, a binary file object, a picture of Pillow, a uint8 array [H, W, 3], "
    "or a list of these"
)


def as_list(photographs: Any) -> tuple[list[Any], bool]:
    """Returns what was handed over as a list, and whether it is one photograph.

    Arrays `[N, H, W, 3]` or `[N, H, W, 4]` are N photographs.

    Raises:
      UserError: where it is neither a photograph nor a list, or an empty list.
    """
    array = _as_array(photographs)
    if array is not None:
        return (list(array), False) if array.ndim == 4 else ([array], True)
    is_one = isinstance(photographs, str | os.PathLike | PIL.Image.Image | bytes | bytearray)
    if is_one or hasattr(photographs, "read"):
        return [photographs], True
    try:
        given = list(photographs)
    except TypeError as error:
        raise UserError(f"{type(photographs).__name__} is no photograph; give {KINDS}.") from error
    if not given:
        raise UserError("the list of photographs is empty; give one or more.")
    return given, False


def as_image(photograph: Any) -> tuple[np.ndarray, str]:
    """Returns a photograph as uint8 `[H, W, 3]` RGB, and what it is called.

    Args:
      photograph: a path; encoded bytes, or a binary file object; a picture of Pillow, whose EXIF
        orientation is applied, transparency dropped and 16 bits reduced to 8; or an array of NumPy,
        JAX or PyTorch, uint8 `[H, W, 3]` RGB, `[H, W, 4]` RGBA, whose transparency is dropped, or
        `[H, W]` grey. Of a picture that moves, the frame it stands at, of a file the first one.

    Raises:
      UserError: where it is something else, or cannot be read.
    """
    if isinstance(photograph, PIL.Image.Image):
        return _from_pillow(photograph), str(getattr(photograph, "filename", ""))
    if isinstance(photograph, str | os.PathLike):
        path = os.fspath(photograph)
        return read_photograph(path), path
    if hasattr(photograph, "read"):
        name = getattr(photograph, "name", "")
        name = name if isinstance(name, str) else ""
        data = photograph.read()
        if not isinstance(data, bytes):
            raise UserError(f"{name or 'the file object'} gives text; open it in binary mode.")
        return decode_image(data, name or "the file object"), name
    if isinstance(photograph, bytes | bytearray):
        return decode_image(bytes(photograph), "the photograph"), ""
    image = _as_array(photograph)
    if image is None:
        image = photograph
    elif image.dtype == np.uint8 and image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    elif image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 4:
        image = np.ascontiguousarray(image[..., :3])
    check_image(image)
    return image, ""


def check_image(image: Any) -> None:
    """Checks that something is uint8 `[H, W, 3]`.

    Raises:
      UserError: says what it is instead, and what to do.
    """
    is_array = isinstance(image, np.ndarray)
    is_rgb = is_array and image.ndim == 3 and image.shape[2] == 3 and 0 not in image.shape
    if is_rgb and image.dtype == np.uint8:
        return
    if not is_array:
        raise UserError(f"{type(image).__name__} is no photograph; give {KINDS}.")
    advice = ""
    if image.dtype.kind == "f":
        advice = "; numbers of 0 to 1 must be multiplied by 255 and converted to uint8"
        if np.isnan(image).any():
            advice = "; it holds NaN"
    elif image.ndim == 3 and image.shape[0] in (3, 4):
        advice = "; move the channels to the end"
    raise UserError(
        f"a photograph must be a uint8 array [H, W, 3] in RGB, not {image.dtype} {image.shape}"
        f"{advice}."
    )


def _as_array(photograph: Any) -> np.ndarray | None:
    """Returns an array of NumPy, JAX or PyTorch as NumPy's; None for what is none of them."""
    if isinstance(photograph, np.ndarray):
        return photograph
    kind = type(photograph)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(photograph, torch.Tensor):
        return photograph.detach().cpu().numpy()
    if hasattr(kind, "__array__") and hasattr(kind, "shape") and hasattr(kind, "dtype"):
        return np.asarray(photograph)
    return None


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
