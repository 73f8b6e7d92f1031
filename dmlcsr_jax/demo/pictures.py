"""What the page shows and gives of a result: chosen parts tinted, cut out, and measured."""

import html
from collections.abc import Collection

import numpy as np

from dmlcsr_jax import visualization
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.predict.result import Result

# No class has it, and what is no class is not tinted.
_NOT_CHOSEN = 255


def parts_of(label_set: LabelSet) -> list[tuple[str, str]]:
    """Returns title and name of the classes that can be chosen: all but the background."""
    return [(label_set.titles[i], label_set.classes[i]) for i in label_set.mean_f1_classes]


def legend(label_set: LabelSet) -> str:
    """Returns HTML: a box in each class's colour, and the class's title."""
    swatch = "display:inline-block;width:1em;height:1em;margin:0 .4em 0 1em;border:1px solid gray"
    return " ".join(
        f'<span style="white-space:nowrap"><span style="{swatch};background:'
        f'#{bytes(label_set.palette[i]).hex()}"></span>{html.escape(label_set.titles[i])}</span>'
        for i in label_set.mean_f1_classes
    )


def tinted(result: Result, parts: Collection[str], alpha: float) -> np.ndarray:
    """Returns uint8 `[H, W, 3]` RGB: the photograph with the chosen parts tinted.

    Args:
      result: of the photograph.
      parts: names of classes; others are ignored.
      alpha: share of the tint, 0 to 1.
    """
    label = np.where(_is_chosen(result, parts), result.label, np.uint8(_NOT_CHOSEN))
    return visualization.overlay(result.image, label, result.label_set, alpha)


def cut_out(result: Result, parts: Collection[str]) -> np.ndarray:
    """Returns uint8 `[H, W, 4]` RGBA: the chosen parts of the photograph.

    All else is transparent and black, so that the file holds nothing of what was cut away.

    Args:
      result: of the photograph.
      parts: names of classes; others are ignored.
    """
    is_chosen = _is_chosen(result, parts)[..., None]
    alpha = np.full((*result.label.shape, 1), 255, np.uint8)
    return np.where(is_chosen, np.concatenate([result.image, alpha], axis=2), np.uint8(0))


def areas(result: Result) -> list[tuple[str, int, float]]:
    """Returns title, pixels and percent of the photograph of each part that is in it.

    Args:
      result: of the photograph.
    """
    total = result.label.size
    return [
        (title, result.area[name], round(100 * result.area[name] / total, 2))
        for title, name in parts_of(result.label_set)
        if result.area[name]
    ]


def told(result: Result) -> str:
    """Returns what is known of the faces, and how far to trust their labels, in a sentence or two.

    Args:
      result: of the photograph; "" where no faces were looked for.
    """
    if not result.is_searched:
        return ""
    if not result.faces:
        return "No face was found; what is no part of a person is background."
    count = f"{len(result.faces)} faces" if len(result.faces) > 1 else "1 face"
    lowest = min(result.faces, key=lambda face: face.quality)
    doubts = f" ({', '.join(lowest.doubts)})" if lowest.doubts else ""
    return f"{count}; quality {lowest.quality:.0%}{doubts}."


def _is_chosen(result: Result, parts: Collection[str]) -> np.ndarray:
    table = np.zeros(256, bool)
    for index, name in enumerate(result.names):
        table[index] = name in parts
    return table[result.label]
