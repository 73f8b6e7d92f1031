"""What prediction writes: palette label maps, overlays, and what the labels mean."""

import contextlib
import errno
import io
import itertools
import json
import os
import pathlib
import shutil
import time
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import PIL.Image
from etils import epath

from dmlcsr_jax import atomic_file, visualization
from dmlcsr_jax.atomic_file import PART
from dmlcsr_jax.data.addresses import as_path
from dmlcsr_jax.data.json_object import parse_object
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError, differences
from dmlcsr_jax.predict import origin
from dmlcsr_jax.predict.photographs import MARKER, OUTPUT_FOLDERS

_JPEG_QUALITY = 95
# The encoder's longest side.
_JPEG_PIXELS = 65_500
# Width of the legend, pixels.
_LEGEND = 640
# A half-written file that was not touched for so long is nobody's.
_LEFT_SECONDS = 3600

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
    label: np.ndarray,
    label_set: LabelSet,
    name: str,
    texts: Mapping[str, str] = types.MappingProxyType({}),
) -> bytes:
    """Returns a palette PNG whose indices are the labels.

    Args:
      label: uint8 `[H, W]`.
      label_set: gives the palette.
      name: the photograph's name, kept in the file as the text `name`.
      texts: what else is kept in it; see `origin.Origin.texts`.
    """
    picture = PIL.Image.fromarray(label)
    picture.putpalette(visualization.colour_table(label_set).tobytes())
    info = origin.png_info({"name": origin.as_text(name), **texts})
    data = io.BytesIO()
    picture.save(data, format="PNG", pnginfo=info)
    return data.getvalue()


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
        if not place.exists() or _is_of(place, photograph):
            return name


def _is_of(place: pathlib.Path, photograph: str) -> bool:
    named = origin.texts_in(place).get("name")
    return bool(photograph) and named == origin.as_text(photograph)


def overlay_jpeg(
    image: np.ndarray, label: np.ndarray, label_set: LabelSet, alpha: float, name: str
) -> bytes:
    """Returns a JPEG of the photograph `name`, uint8 `[H, W, 3]` RGB, with its parts tinted.

    Raises:
      UserError: where the encoder refuses it.
    """
    height, width = label.shape
    # OpenCV says no too, but prints a page of it.
    is_encoded = max(height, width) <= _JPEG_PIXELS
    if is_encoded:
        mixed = visualization.overlay(image, label, label_set, alpha)
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        mixed = cv2.cvtColor(mixed, cv2.COLOR_RGB2BGR)
        is_encoded, data = cv2.imencode(".jpg", mixed, options)
    if not is_encoded:
        raise UserError(
            f"the overlay of {name or 'the photograph'} would be a JPEG of {width}x{height} "
            "pixels, and there is none; use --no_overlay, or make it smaller."
        )
    return data.tobytes()


def write_legend(out: epath.Path, label_set: LabelSet) -> None:
    """Writes `overlays/legend.png`: each class's colour, name and what it is.

    Photographs' overlays have other suffixes, and files that are not ours lie elsewhere.

    Raises:
      OutputError: as `write`.
    """
    legend = visualization.legend(label_set, _LEGEND)
    write(out / "overlays" / "legend.png", visualization.png_bytes(legend))


def write(path: epath.Path, data: bytes) -> None:
    """Writes a file, completely or not at all.

    Raises:
      OutputError: where there is no room or no right to write it; a `PlaceError` where only this
        file cannot be written.
    """
    with _as_output_error(path):
        atomic_file.write_bytes(path, data)


def write_parts(path: epath.Path, parts: Iterable[bytes]) -> None:
    """Writes a file of its parts, one after the other, as `write`."""
    with _as_output_error(path):
        atomic_file.write_parts(path, parts)


@contextlib.contextmanager
def _as_output_error(path: epath.Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise (PlaceError if _is_place(error.__cause__) else OutputError)(str(error)) from error
    except OSError as error:
        raise cannot_write(path, error) from error


def remove(path: epath.Path) -> None:
    """Removes a file, where it is there.

    Raises:
      OutputError: where it may not be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove_left(out: epath.Path) -> None:
    """Removes what runs that were killed have left half-written in a local folder of outputs."""
    if "://" in os.fspath(out):
        return
    for name in OUTPUT_FOLDERS:
        for folder, below, files in os.walk(out / name):
            for part in filter(_is_part, (*below, *files)):
                path = pathlib.Path(folder, part)
                with contextlib.suppress(OSError):
                    # Other processes may be writing theirs.
                    if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith((PART, f"{PART}.mp4"))


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
    out: epath.PathLike,
    label_set: LabelSet,
    layout: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> epath.Path:
    """Makes the folder of the outputs, or goes on with one of the same classes and layout.

    Writes `names.txt` (a class a line, label 0 first), `label_set.json` (all there is to know of
    the labels), and `predict.json` with the settings of the last run.

    Args:
      out: the folder.
      label_set: meaning of the labels.
      layout: JSON-serialisable, what decides which file a label map is in beside its name.
      settings: JSON-serialisable, for the reader: each label map keeps a digest of its own.

    Returns:
      The folder.

    Raises:
      UserError: where the folder holds other files or outputs of other classes or another layout,
        or cannot be written.
    """
    out = as_path(out)
    classes = {name: label_set.to_json()[name] for name in ("name", "classes", "left_is")}
    marker = {"label_set": classes, "layout": layout, "settings": settings}
    # Another process that writes here writes the marker first: look for it last.
    holds_others = any((out / name).exists() for name in OUTPUT_FOLDERS)
    if (out / MARKER).exists():
        _require_same(out, marker)
    elif holds_others:
        raise UserError(
            f"{out} has a folder {' or '.join(OUTPUT_FOLDERS)} that prediction did not write; give "
            "another --out."
        )
    left = {"none": ""}.get(label_set.left_is, f"# left_is: {label_set.left_is}\n")
    write(out / "names.txt", (left + "".join(f"{n}\n" for n in label_set.classes)).encode())
    write(out / "label_set.json", _json(label_set.to_json()))
    write(out / MARKER, _json(marker))
    return out


def _json(content) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _require_same(out: epath.Path, marker: Mapping[str, Any]) -> None:
    marker = json.loads(json.dumps(marker))
    try:
        before = parse_object((out / MARKER).read_bytes(), MARKER)
        differing = [differences(before[part], marker[part]) for part in ("label_set", "layout")]
    except (OSError, UserError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{out / MARKER} cannot be read; give another --out.") from error
    for what, said in zip(("classes", "shards or none"), differing, strict=True):
        if said:
            raise UserError(
                f"{out} holds results of other {what}: {said}; give another --out (other settings "
                "and other photographs may share one)."
            )
