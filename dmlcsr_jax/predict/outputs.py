"""What prediction writes: palette label maps, overlays, and what the labels mean."""

import errno
import io
import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
from etils import epath

from dmlcsr_jax import atomic_file, visualization
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError, differences
from dmlcsr_jax.predict.photographs import MARKER, OUTPUT_FOLDERS

_JPEG_QUALITY = 95

# Something else has a file's place, which etils says without a number, or the name is not allowed.
_PLACE_TYPES = (FileExistsError, IsADirectoryError, NotADirectoryError)
_PLACE_NUMBERS = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP)


class OutputError(UserError):
    """A file cannot be written; but for a `PlaceError`, going on is of no use."""


class PlaceError(OutputError):
    """A file's place cannot be had, by its name or for what is there; other files have theirs."""


def ends_the_run(error: UserError) -> bool:
    """Returns whether what went wrong with one picture would go wrong with the next."""
    return isinstance(error, OutputError) and not isinstance(error, PlaceError)


def label_png(
    label: np.ndarray, label_set: LabelSet, name: str, made_of: str | None = None
) -> bytes:
    """Returns a palette PNG whose indices are the labels.

    Args:
      label: uint8 `[H, W]`.
      label_set: gives the palette.
      name: the photograph's name, kept in the file as the text `name`.
      made_of: the fingerprint of its file's content, kept as the text `made_of`; None for none.
    """
    picture = PIL.Image.fromarray(label)
    picture.putpalette(visualization.colour_table(label_set).tobytes())
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("name", _text(name))
    if made_of is not None:
        info.add_text("made_of", made_of)
    data = io.BytesIO()
    picture.save(data, format="PNG", pnginfo=info)
    return data.getvalue()


def made_of_in(data: bytes) -> str | None:
    """Returns the `made_of` that `label_png` has kept in a PNG; None for none."""
    return _text_in(io.BytesIO(data), "made_of")


def free_name(folder: pathlib.Path, photograph: str) -> str:
    """Returns what to call a photograph's files in a folder, without suffix.

    Args:
      folder: where `label_png` of other photographs may lie.
      photograph: its name; "" for one without.

    Returns:
      The name's last part without suffix, or "photograph"; with a number where a PNG of that name
      is another photograph's.
    """
    stem = pathlib.PurePath(photograph).stem or "photograph"
    for number in itertools.count(1):
        name = stem if number == 1 else f"{stem}_{number}"
        place = folder / f"{name}.png"
        if not place.exists() or (photograph and _text_in(place, "name") == _text(photograph)):
            return name


def _text(name: str) -> str:
    """Returns a name as a PNG can keep it: file names may be bytes that no text has."""
    return name.encode(errors="replace").decode()


def _text_in(file: pathlib.Path | io.BytesIO, key: str) -> str | None:
    try:
        with PIL.Image.open(file, formats=["PNG"]) as picture:
            return picture.info.get(key)
    # Of a file that is not ours, or damaged, Pillow raises what it likes.
    except Exception:
        return None


def overlay_jpeg(image: np.ndarray, label: np.ndarray, label_set: LabelSet, alpha: float) -> bytes:
    """Returns a JPEG of the photograph, uint8 `[H, W, 3]` RGB, with its parts tinted."""
    mixed = visualization.overlay(image, label, label_set, alpha)
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(mixed, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def write(path: epath.Path, data: bytes) -> None:
    """Writes a file, completely or not at all.

    Raises:
      OutputError: where there is no room or no right to write it; a `PlaceError` where only this
        file cannot be written.
    """
    try:
        atomic_file.write_bytes(path, data)
    except UserError as error:
        raise (PlaceError if _is_place(error.__cause__) else OutputError)(str(error)) from error
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: epath.PathLike, error: OSError) -> OutputError:
    """Returns the error that names a file that could not be written."""
    if _is_place(error):
        return PlaceError(
            f"cannot write {path}: {error.strerror or type(error).__name__}; rename what it is "
            "made of, or remove what is in its place."
        )
    return OutputError(
        f"cannot write {path}: {error.strerror or error}; fix that and start again: what is "
        "finished is kept."
    )


def _is_place(error: BaseException | None) -> bool:
    return isinstance(error, _PLACE_TYPES) or getattr(error, "errno", None) in _PLACE_NUMBERS


def open_folder(
    out: epath.PathLike, label_set: LabelSet, settings: Mapping[str, Any], checkpoint: str
) -> epath.Path:
    """Makes the folder of the outputs, or goes on with one of the same settings.

    Writes `names.txt` (a class a line, label 0 first) and `label_set.json` (all there is to know of
    the labels), and `predict.json` with the settings.

    Args:
      out: the folder.
      label_set: meaning of the labels.
      settings: JSON-serialisable, all that decides what is written.
      checkpoint: the checkpoint's path, for the reader.

    Returns:
      The folder.

    Raises:
      UserError: where the folder holds other files or outputs of other settings, or cannot be
        written.
    """
    out = epath.Path(out)
    settings = json.loads(json.dumps(settings))
    # Another process that writes here writes the marker first: look for it last.
    holds_others = any((out / name).exists() for name in OUTPUT_FOLDERS)
    is_new = not (out / MARKER).exists()
    if not is_new:
        _require_same(out, settings)
    elif holds_others:
        raise UserError(
            f"{out} has a folder {' or '.join(OUTPUT_FOLDERS)} that prediction did not write; give "
            "another --out."
        )
    left = {"none": ""}.get(label_set.left_is, f"# left_is: {label_set.left_is}\n")
    write(out / "names.txt", (left + "".join(f"{n}\n" for n in label_set.classes)).encode())
    write(out / "label_set.json", _json(label_set.to_json()))
    if is_new:
        write(out / MARKER, _json({"checkpoint": checkpoint, "settings": settings}))
    return out


def _json(content) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _require_same(out: epath.Path, settings: Mapping[str, Any]) -> None:
    try:
        before = json.loads((out / MARKER).read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / MARKER} cannot be read; give another --out.") from error
    if differing := differences(before, settings):
        raise UserError(
            f"{out} holds predictions of other settings: {differing}; give another --out, or "
            "remove that one."
        )
