"""What a check of a data set prints and writes."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tabulate
from etils import epath

from dmlcsr_jax import atomic_file, visualization
from dmlcsr_jax.data.geometry import box_matrix, change_source, photograph_box
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.warp import warp_image, warp_label
from dmlcsr_jax.errors import UserError

_REPORT = "check_data.json"
_SHEET = "check_data.png"
BAD_FILES = "bad_files.txt"
_SHEET_EXAMPLES = 24
_SHEET_EXAMPLES_A_ROW = 4
_TILE_SIZE = 160


# Below this share of plausible images a set is said to mix left and right.
_PLAUSIBLE = 0.95
_NAMES_SHOWN = 3


def warnings(report: dict[str, Any], label_set: LabelSet) -> list[str]:
    """Returns a sentence for everything in a report that looks wrong."""
    warnings = []
    for split, found in report["splits"].items():
        official = found["official"]
        if official is not None and official != found["examples"]:
            warnings.append(
                f"{split} has {found['examples']:,} examples instead of the official {official:,}."
            )
        absent = [c["name"] for c in report["classes"] if not c["images"][split]]
        if absent:
            warnings.append(f"{split} has no pixel of {', '.join(absent)}.")
    side = {"subject": "image-right", "image": "image-left"}.get(label_set.left_is)
    for pair in report["left_right"]:
        share = pair["plausible"]
        if share is None or share >= _PLAUSIBLE:
            continue
        found = (
            f"{pair['left']} lies {side} of {pair['right']} in only {share:.1%} of "
            f"{pair['images']:,} images, though the label set {label_set.name!r} says that left is "
            f"the {label_set.left_is}'s"
        )
        if share < 0.5:
            advice = "left and right are exchanged: correct left_is or the labels"
        else:
            advice = f"some images have them exchanged, such as {_some(pair['implausible'])}"
        warnings.append(f"{found}; {advice}.")
    if label_set.mirror_pairs and len(report["left_right"]) < len(label_set.mirror_pairs):
        warnings.append(
            "left and right could not be checked for the mirror pairs whose names say neither."
        )
    for names in report["same_image"]:
        warnings.append(f"the same photograph is in the set as {_some(names)}.")
    return warnings


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def print_report(report: dict[str, Any]):
    """Prints a report as tables, its warnings last."""
    splits = report["splits"]
    headers = ["label", "class"]
    headers += [f"{split} {what}" for split in splits for what in ("pixels", "images")]
    rows = [
        [c["label"], c["name"]]
        + [f"{c[what][split]:.2%}" for split in splits for what in ("pixels", "images")]
        for c in report["classes"]
    ]
    ignored = [part for split in splits for part in (f"{report['ignored'][split]:.2%}", "")]
    rows.append(["", "(ignored)", *ignored])
    align = ["right", "left"] + ["right"] * (len(headers) - 2)
    print(tabulate.tabulate(rows, headers, colalign=align, disable_numparse=True))
    print()
    rows = [
        [split, f"{found['examples']:,}", len(found["bad"]), size, f"{count:,}"]
        for split, found in splits.items()
        for size, count in (found["sizes"] or {"": 0}).items()
    ]
    print(tabulate.tabulate(rows, ["split", "examples", "bad", "size", "of this size"]))
    if report["left_right"]:
        rows = [
            [p["left"], p["right"], p["images"], _percent(p["plausible"])]
            for p in report["left_right"]
        ]
        print()
        print(tabulate.tabulate(rows, ["left", "right", "images with both", "plausible"]))
    print()
    for warning in report["warnings"]:
        print(f"warning: {warning}")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def write_report(
    report: dict[str, Any], sources: Mapping[str, Any], label_set: LabelSet, out_dir: epath.Path
):
    """Writes a report as JSON, its contact sheet, and the list of bad files where there are some.

    Raises:
      UserError: where the folder cannot be written to.
    """
    try:
        atomic_file.write_text(out_dir / _REPORT, json.dumps(report, indent=1) + "\n")
        sheet = _contact_sheet(report, sources, label_set)
        if sheet is not None:
            atomic_file.write_bytes(out_dir / _SHEET, visualization.png_bytes(sheet))
        bad = [b["error"] for found in report["splits"].values() for b in found["bad"]]
        if bad:
            atomic_file.write_text(out_dir / BAD_FILES, "".join(f"{error}\n" for error in bad))
        else:
            # One of an earlier check would be taken for this one's.
            (out_dir / BAD_FILES).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {out_dir} ({error.strerror or error}); choose "
            "another folder."
        ) from error
    print(f"report: {out_dir / _REPORT}")
    if sheet is not None:
        print(f"contact sheet: {out_dir / _SHEET}")


def _contact_sheet(
    report: dict[str, Any], sources: Mapping[str, Any], label_set: LabelSet
) -> np.ndarray | None:
    """Returns a picture of examples spread over the splits, or None where all are bad."""
    good = []
    for split, source in sources.items():
        bad = {b["index"] for b in report["splits"][split]["bad"]}
        good += [(split, index) for index in range(len(source)) if index not in bad]
    if not good:
        return None
    chosen = np.linspace(0, len(good) - 1, min(_SHEET_EXAMPLES, len(good))).round().astype(int)
    tiles, names = [], []
    for split, index in (good[i] for i in chosen):
        example = sources[split][index]
        image, label = example["image"], example["label"]
        matrix = box_matrix(photograph_box(image.shape[:2]), _TILE_SIZE)
        label_matrix = change_source(matrix, image.shape[:2], label.shape)
        image = warp_image(image, matrix, _TILE_SIZE)
        label = warp_label(label, label_matrix, _TILE_SIZE, label_set.ignore_label)
        tiles += [image, visualization.overlay(image, label, label_set)]
        names.append(f"{split}/{example['name']}")
    blank = np.full((_TILE_SIZE, _TILE_SIZE, 3), 255, np.uint8)
    tiles += [blank] * (-len(tiles) % (2 * _SHEET_EXAMPLES_A_ROW))
    starts = range(0, len(tiles), 2 * _SHEET_EXAMPLES_A_ROW)
    names = [names[start // 2 : start // 2 + _SHEET_EXAMPLES_A_ROW] for start in starts]
    sheet = visualization.grid(
        [tiles[start : start + 2 * _SHEET_EXAMPLES_A_ROW] for start in starts],
        column_titles=["photograph", "labels"] * _SHEET_EXAMPLES_A_ROW,
        row_titles=["  ".join(row) for row in names],
        tile_size=_TILE_SIZE,
    )
    return np.concatenate([sheet, visualization.legend(label_set, sheet.shape[1])])
