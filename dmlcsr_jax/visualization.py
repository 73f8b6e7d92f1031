"""Pictures of labels: colours, overlays, grids with captions, the legend of a label set."""

import functools
import io
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from dmlcsr_jax.data.label_sets import BACKGROUND, LabelSet

_IGNORE_COLOUR = (128, 128, 128)
_PAPER = (255, 255, 255)
_INK = (20, 20, 20)
_GAP = 6
_FONT_SIZE = 13
_LINE_HEIGHT = 18
_LEGEND = 480  # least width of one below a picture


def colour_table(label_set: LabelSet) -> np.ndarray:
    """Returns uint8 `[256, 3]` RGB: the colour of every label; grey for what is no class."""
    table = np.full((256, 3), _IGNORE_COLOUR, np.uint8)
    table[: label_set.num_classes] = label_set.palette
    return table


def paint(label: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Returns uint8 `[..., 3]` RGB: a label map in its set's colours.

    Args:
      label: integers 0 to 255 `[...]`.
      label_set: gives the palette.
    """
    return colour_table(label_set)[label]


def overlay(
    image: np.ndarray, label: np.ndarray, label_set: LabelSet, alpha: float = 0.5
) -> np.ndarray:
    """Returns uint8 `[H, W, 3]` RGB: the photograph, its parts tinted, the background as it is.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      label: uint8 `[H, W]`.
      label_set: gives the palette.
      alpha: share of the tint, 0 to 1.
    """
    tinted = cv2.addWeighted(image, 1 - alpha, paint(label, label_set), alpha, 0)
    is_tinted = np.ones(256, bool)
    is_tinted[label_set.num_classes :] = False
    if BACKGROUND in label_set.classes:
        is_tinted[label_set.classes.index(BACKGROUND)] = False
    return np.where(is_tinted[label][..., None], tinted, image)


@functools.cache
def _font() -> PIL.ImageFont.FreeTypeFont:
    # Matplotlib ships DejaVu Sans, which has most scripts that file names are written in.
    path = pathlib.Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    return PIL.ImageFont.truetype(str(path), _FONT_SIZE)


def _fit(text: str, width: int) -> str:
    """Returns the text, its front cut off where it is wider than `width` pixels."""
    if _font().getlength(text) <= width:
        return text
    while text and _font().getlength("…" + text) > width:
        text = text[1:]
    return "…" + text


def _wrap(text: str, width: int) -> list[str]:
    """Returns the text broken at its spaces into lines of at most `width` pixels."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if lines[-1] and _font().getlength(joined) > width:
            lines.append(word)
        else:
            lines[-1] = joined
    return [_fit(line, width) for line in lines]


def _sheet(height: int, width: int) -> tuple[PIL.Image.Image, PIL.ImageDraw.ImageDraw]:
    sheet = PIL.Image.new("RGB", (width, height), _PAPER)
    return sheet, PIL.ImageDraw.Draw(sheet)


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    tile_size: int = 192,
) -> np.ndarray:
    """Returns a sheet of equal tiles with titles.

    Args:
      rows: rows of uint8 RGB pictures, each square; enlarged or reduced to the tile.
      column_titles: one a column, broken into lines where too long.
      row_titles: one a row, above it, the front cut off where too long; None: no such lines.
      tile_size: side of a tile, pixels.

    Returns:
      uint8 `[H, W, 3]` RGB.
    """
    titles = [_wrap(title, tile_size) for title in column_titles]
    top = _GAP + _LINE_HEIGHT * max(len(lines) for lines in titles)
    caption = _LINE_HEIGHT if row_titles is not None else 0
    pitch = tile_size + _GAP
    width = _GAP + pitch * len(titles)
    sheet, draw = _sheet(top + len(rows) * (pitch + caption) + _GAP, width)
    for column, lines in enumerate(titles):
        for number, line in enumerate(lines):
            place = (_GAP + column * pitch, _GAP + number * _LINE_HEIGHT)
            draw.text(place, line, fill=_INK, font=_font())
    for number, row in enumerate(rows):
        y = top + number * (pitch + caption) + _GAP
        if row_titles is not None:
            text = _fit(row_titles[number], width - 2 * _GAP)
            draw.text((_GAP, y), text, fill=_INK, font=_font())
        for column, picture in enumerate(row):
            shrinks = picture.shape[0] > tile_size
            tile = cv2.resize(
                np.ascontiguousarray(picture),
                (tile_size, tile_size),
                interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST,
            )
            sheet.paste(PIL.Image.fromarray(tile), (_GAP + column * pitch, y + caption))
    return np.asarray(sheet)


def legend(label_set: LabelSet, width: int, labels: Collection[int] | None = None) -> np.ndarray:
    """Returns uint8 `[H, width, 3]` RGB: every class's colour and name, in as many lines as needed.

    A name that is not plain has its plain words behind it.

    Args:
      label_set: gives names and palette.
      width: of the picture, pixels.
      labels: of these classes alone; None: of all.
    """
    swatch = _FONT_SIZE
    x, line, places = _GAP, 0, []
    classes = [
        each
        for label, each in enumerate(zip(label_set.titles, label_set.palette, strict=True))
        if labels is None or label in labels
    ]
    for name, _ in classes:
        needed = swatch + _GAP + int(_font().getlength(name)) + 2 * _GAP
        if x > _GAP and x + needed > width:
            x, line = _GAP, line + 1
        places.append((x, _GAP + line * (_LINE_HEIGHT + 2)))
        x += needed
    sheet, draw = _sheet(2 * _GAP + (line + 1) * (_LINE_HEIGHT + 2), width)
    for (x, y), (name, colour) in zip(places, classes, strict=True):
        draw.rectangle((x, y + 1, x + swatch, y + 1 + swatch), fill=colour, outline=_INK)
        draw.text((x + swatch + _GAP, y), name, fill=_INK, font=_font())
    return np.asarray(sheet)


def with_legend(picture: np.ndarray, label: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Returns a picture, uint8 `[H, W, 3]` RGB, above the legend of what its labels show."""
    width = max(picture.shape[1], _LEGEND)
    padding = [(0, 0), (0, width - picture.shape[1]), (0, 0)]
    below = legend(label_set, width, label_set.shown_in(label))
    return np.concatenate([np.pad(picture, padding, constant_values=255), below])


def plot(
    picture: np.ndarray, label: np.ndarray, label_set: LabelSet, axes: Any = None, title: str = ""
) -> Any:
    """Draws a picture and the legend of what its labels show by Matplotlib; returns the axes.

    Args:
      picture: uint8 `[H, W, 3]` RGB.
      label: uint8 `[H, W]`.
      label_set: gives names and palette.
      axes: `matplotlib.axes.Axes` to draw in; None: those of a new figure of pyplot.
      title: above it.
    """
    if axes is None:
        import matplotlib.pyplot  # Here: it looks for a screen.

        _, axes = matplotlib.pyplot.subplots(figsize=(8, 5), layout="constrained")
    axes.imshow(picture)
    axes.set_axis_off()
    axes.set_title(title)
    for value in label_set.shown_in(label):
        colour = np.array(label_set.palette[value]) / 255
        axes.plot([], [], "s", color=colour, label=label_set.titles[value])
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return axes


def png_bytes(picture: np.ndarray) -> bytes:
    """Returns the PNG file of a picture: grey `[H, W]`, uint8 or uint16; or uint8 RGB or RGBA."""
    data = io.BytesIO()
    PIL.Image.fromarray(picture).save(data, format="PNG")
    return data.getvalue()
