"""Photographs and label maps from the bytes of their files, damaged ones refused by name.

A photograph is turned as its EXIF orientation says, the way viewers and annotation tools show it.
OpenCV fills what is missing of a JPEG with grey and turns a palette's indices into colours;
hence the checks here, and Pillow for label maps. Files are untrusted: what is no regular file
or larger than `Limits` is refused before it is read or decoded.
"""

import hashlib
import io
import os
import pathlib
import stat
import zlib
from typing import BinaryIO

import cv2
import numpy as np
import PIL.Image
from etils import epath

from dmlcsr_jax.data import heic, jpeg
from dmlcsr_jax.data import limits as limits_lib
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_END = b"\xff\xd9"
# What OpenCV reads too, and what keeps labels as they are. Pillow knows more, of which some run
# other programs: PostScript is run by Ghostscript.
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SUN", "TGA", "TIFF"),
    "WEBP",
)
# Bilevel, grey, palette, 16-bit grey in its several spellings, and grey kept as three channels.
_LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "RGB")


def read_bytes(path: pathlib.Path | epath.Path, limits: Limits = limits_lib.DEFAULT) -> bytes:
    """Returns a file's bytes.

    Args:
      path: the file, local or remote.
      limits: how large it may be.

    Raises:
      UserError: naming the file, where it cannot be read, is no regular file (a named pipe, a
        device or a link to one) or is larger than the limit.
    """
    try:
        if "://" in os.fspath(path):
            size = epath.Path(path).stat().length
            data = path.read_bytes() if size <= limits.file_bytes else b""
        else:
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                # Files of the system say 0 and have no end; what may be read is reserved at once.
                most = min(limits.file_bytes, max(size, 2**20)) + 1
                data = file.read(most) if size <= limits.file_bytes else b""
    except OSError as error:
        raise _cannot_read(path, error) from error
    if max(size, len(data)) > limits.file_bytes:
        raise UserError(
            f"{path} has more bytes than the limit of {limits.file_bytes:,}; make it smaller, or "
            "raise the limit (--max_file_bytes)."
        )
    return data


def open_regular(path: epath.PathLike) -> io.BufferedReader:
    """Opens a local file for reading, which never waits and has no effect on a device.

    Args:
      path: the file, or a link to one.

    Raises:
      UserError: naming it, where it is a named pipe, a device or a socket, which may have no end,
        or cannot be read.
    """
    require_regular(path)
    try:
        return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except OSError as error:
        raise _cannot_read(path, error) from error


def require_regular(path: epath.PathLike) -> None:
    """Checks that a local file is a regular one or a link to one; a remote one is.

    Opening others is an act for some devices, and a pipe waits for a writer.

    Raises:
      UserError: naming it, where it is something else or cannot be looked at.
    """
    if "://" in os.fspath(path):
        return
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise _cannot_read(path, error) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a named pipe, a device or a socket"
        raise UserError(f"{path} cannot be read: it is {kind}, not a regular file.")


def _cannot_read(path: epath.PathLike, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read ({error.strerror or error}); fix or replace the file.")


def fingerprint(data: bytes | BinaryIO) -> str:
    """Returns what tells a file's content from any other: its size and SHA-256."""
    if isinstance(data, bytes):
        digest, size = hashlib.sha256(data), len(data)
    else:
        digest, size = hashlib.file_digest(data, "sha256"), data.tell()
    return f"{size} bytes, sha256 {digest.hexdigest()}"


def picture_size(data: bytes, name: str, limits: Limits = limits_lib.DEFAULT) -> tuple[int, int]:
    """Returns height and width of an encoded picture, before its EXIF orientation, and checks it.

    It is not decoded.

    Args:
      data: the file's bytes, in any format that Pillow knows.
      name: the file's name, for errors.
      limits: how many pixels it may have.

    Raises:
      UserError: where the file is empty, cut off, no picture or has more pixels than the limit.
    """
    _check_complete(data, name, limits)
    if heic.is_heic(data):
        heic.register(name)
    try:
        with open_picture(data) as picture:
            width, height = picture.size
    except PIL.Image.DecompressionBombError as error:
        raise _too_many_pixels(name, limits) from error
    # Decoders may raise any exception for malformed bytes.
    except Exception as error:
        raise UserError(f"{name} is not a readable picture; replace it or leave it out.") from error
    if height * width > limits.pixels:
        raise _too_many_pixels(f"{name}, {width}x{height} pixels,", limits)
    return height, width


def open_picture(data: bytes) -> PIL.Image.Image:
    """Opens an encoded picture of one of `FORMATS`, or HEIC after `heic.register`, undecoded.

    Raises:
      Exception: whatever Pillow does of bytes that are none.
    """
    return PIL.Image.open(
        io.BytesIO(data), formats=(heic.FORMAT,) if heic.is_heic(data) else FORMATS
    )


def _too_many_pixels(name: str, limits: Limits) -> UserError:
    return UserError(
        f"{name} has more pixels than the limit of {limits.pixels:,}; make it smaller, or raise "
        "the limit (--max_pixels)."
    )


def decode_image(data: bytes, name: str, limits: Limits = limits_lib.DEFAULT) -> np.ndarray:
    """Returns the photograph that an encoded file holds, in its EXIF orientation.

    Args:
      data: the file's bytes: JPEG, PNG, or whatever else OpenCV and Pillow read.
      name: the file's name, for errors.
      limits: how many pixels it may have.

    Returns:
      uint8 `[H, W, 3]` RGB; grey is repeated, transparency dropped, 16 bits reduced to 8.

    Raises:
      UserError: where the file is empty, cut off, damaged, too large or not a picture, or a JPEG
        lacks a part from its middle.
    """
    picture_size(data, name, limits)
    return decode_checked_image(data, name)


def decode_checked_image(data: bytes, name: str) -> np.ndarray:
    """Returns what `decode_image` does of a file that `picture_size` has checked."""
    if data.startswith(jpeg.START) and (reason := jpeg.damage(data)):
        raise UserError(f"{name} lacks a part of its data ({reason}); replace it or leave it out.")
    try:
        if heic.is_heic(data):
            return heic.decode(data, name)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (cv2.error, MemoryError):
        image = None
    if image is None:
        raise UserError(f"{name} is not a readable picture; replace it or leave it out.")
    return image


def decode_label(
    data: bytes, name: str, label_set: LabelSet, limits: Limits = limits_lib.DEFAULT
) -> np.ndarray:
    """Returns the label map that an encoded file holds: grey values or palette indices.

    Args:
      data: the file's bytes: PNG, or another lossless format that Pillow reads.
      name: the file's name, for errors.
      label_set: says which values there may be.
      limits: how many pixels it may have.

    Returns:
      uint8 `[h, w]`, each value a class of the set or its ignore label.

    Raises:
      UserError: where the file is empty, cut off, damaged, too large, in colour or lossy, or holds
        a value that is neither a class nor the ignore label.
    """
    picture_size(data, name, limits)
    try:
        with open_picture(data) as picture:
            file_format, mode, label = picture.format, picture.mode, np.asarray(picture)
    # As in `picture_size`.
    except Exception as error:
        raise UserError(
            f"{name} is not a readable label map; replace it or leave it out."
        ) from error
    if file_format == "JPEG":
        raise UserError(f"{name} is a JPEG, which changes labels; label maps must be PNG.")
    if mode == "RGB" and (label == label[..., :1]).all():
        mode, label = "L", label[..., 0]
    if mode not in _LABEL_MODES or label.ndim != 2:
        raise UserError(
            f"{name} is a colour picture; a label map must be a grey or palette PNG whose values "
            "are the labels."
        )
    check_label_values(label, name, label_set)
    return np.ascontiguousarray(label, np.uint8)


def check_label_values(label: np.ndarray, name: str, label_set: LabelSet):
    """Checks that a label map holds classes of a set and its ignore label, nothing else.

    Args:
      label: integers `[h, w]`.
      name: the file's name, for errors.
      label_set: says which values there may be.

    Raises:
      UserError: naming the file, the value and its place.
    """
    if label.max() < label_set.num_classes and label.min() >= 0:
        return
    known = (label >= 0) & (label < label_set.num_classes) | (label == label_set.ignore_label)
    if known.all():
        return
    row, column = np.argwhere(~known)[0]
    raise UserError(
        f"{name} has label {label[row, column]} at row {row}, column {column}, but the label set "
        f"{label_set.name!r} has the labels 0 to {label_set.num_classes - 1} and "
        f"{label_set.ignore_label} to ignore; fix the file or choose the label set it is for."
    )


def check_shapes(image: np.ndarray, label: np.ndarray, image_name: str, label_name: str):
    """Checks that a label map fits its photograph: same size, or smaller by an integer factor.

    Args:
      image: `[H, W, 3]`.
      label: `[h, w]`.
      image_name: the photograph's file, for errors.
      label_name: the label map's file, for errors.

    Raises:
      UserError: naming both files and sizes.
    """
    height, width = image.shape[:2]
    if _fits(height, width, *label.shape):
        return
    hint = ""
    if _fits(width, height, *label.shape):
        hint = " (as its EXIF orientation shows it: was the label drawn without?)"
    raise UserError(
        f"{image_name} is {width}x{height} pixels{hint} but {label_name} is "
        f"{label.shape[1]}x{label.shape[0]}; a label must have its image's size, or that divided "
        "by an integer."
    )


def _fits(height: int, width: int, label_height: int, label_width: int) -> bool:
    factor = height // label_height
    return (height, width) == (factor * label_height, factor * label_width)


def _check_complete(data: bytes, name: str, limits: Limits):
    """Checks that a JPEG or PNG reaches its end, and a PNG's check sums."""
    if not data:
        raise UserError(f"{name} is empty; replace it or leave it out.")
    if data.startswith(jpeg.START):
        complete = _jpeg_is_complete(data, limits)
    elif data.startswith(_PNG_SIGNATURE):
        complete = _png_is_complete(data)
    else:
        complete = True
    if not complete:
        raise UserError(
            f"{name} is cut off or damaged ({len(data)} bytes); replace it or leave it out."
        )


def _jpeg_is_complete(data: bytes, limits: Limits) -> bool:
    """Returns whether a JPEG has all of its scans, whatever may follow them."""
    # In compressed data 0xff is never followed by the end marker's 0xd9.
    if data.endswith(_JPEG_END):
        return True
    if data.rfind(_JPEG_END) < data.rfind(jpeg.SCAN):
        return False
    # Something follows the picture, or the end marker is only that of the thumbnail.
    try:
        with open_picture(data) as picture:
            # What is too large is refused by its size.
            if picture.width * picture.height <= limits.pixels:
                picture.load()
    except PIL.Image.DecompressionBombError:
        return True
    # As in `picture_size`.
    except Exception:
        return False
    return True


def _png_is_complete(data: bytes) -> bool:
    """Returns whether a PNG has all its chunks, each with the right check sum."""
    view = memoryview(data)
    start = len(_PNG_SIGNATURE)
    while start + 12 <= len(data):
        length = int.from_bytes(view[start : start + 4], "big")
        end = start + 8 + length
        if end + 4 > len(data):
            return False
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return False
        if view[start + 4 : start + 8] == b"IEND":
            return True
        start = end + 4
    return False
