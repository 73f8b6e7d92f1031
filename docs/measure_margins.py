"""Measures what a face's surroundings bring, on FaceSynthetics, for docs/results.md.

    python -m docs.measure_margins --root=FOLDER [--checkpoint=DIR]

from the repository's root, with the extra `faces`; `FOLDER` holds `NAME.png` and `NAME_seg.png` as
the set is shipped. Faces are found once, then parsed with several margins of the close and the wide
view; labels are compared in the classes that both label sets have. Prints a table.
"""

import argparse
import pathlib

import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from dmlcsr_jax import FaceParser
from dmlcsr_jax.data import label_maps
from dmlcsr_jax.data.decode import decode_image, decode_label, read_bytes
from dmlcsr_jax.data.label_sets import FACE_SYNTHETICS
from dmlcsr_jax.evaluation.metrics import summarize
from docs.confusion import confusion_matrix

MARGINS = ((0.3, 0.0), (0.4, 0.0), (0.5, 0.0), (0.4, 0.8), (0.4, 1.0), (0.4, 1.5), (0.4, 2.0))
SHOWN = ("skin", "hair", "neck", "cloth", "hat")


def read(root: pathlib.Path):
    """Yields image uint8 `[H, W, 3]` RGB and label uint8 `[H, W]` of each pair."""
    for path in sorted(root.glob("*_seg.png")):
        image = path.with_name(path.name.replace("_seg", ""))
        yield (
            decode_image(read_bytes(image), str(image)),
            decode_label(read_bytes(path), str(path), FACE_SYNTHETICS),
        )


def main() -> None:
    """Runs the command line."""
    arguments = argparse.ArgumentParser(prog="python -m docs.measure_margins", description=__doc__)
    arguments.add_argument("--root", required=True, type=pathlib.Path, help="the set's folder")
    arguments.add_argument("--checkpoint", default="default", help="the model (default: default)")
    given = arguments.parse_args()
    examples = list(read(given.root))
    finder = FaceParser(given.checkpoint)
    faces = [list(finder.found(image).faces) for image, _ in examples]
    compared = label_maps.shared_label_set(FACE_SYNTHETICS, finder.label_set)
    truth = label_maps.label_map(FACE_SYNTHETICS, compared).labels
    ours = label_maps.label_map(finder.label_set, compared).predictions
    names = [name for name in SHOWN if name in compared.classes]
    rows = []
    for margin, wide_margin in MARGINS:
        parser = FaceParser(given.checkpoint, margin=margin, wide_margin=wide_margin)
        confusion = np.zeros((compared.num_classes,) * 2, np.int64)
        for (image, label), boxes in tqdm(list(zip(examples, faces, strict=True)), leave=False):
            found = parser(image, faces=lambda _, boxes=boxes: boxes).label
            confusion += confusion_matrix(truth[label], ours[found], compared.num_classes)
        summary = summarize(confusion, compared)
        parts = [summary["classes"][name]["f1"] for name in names]
        figures = [summary["mean_f1"], summary["pixel_accuracy"], *parts]
        rows.append([margin, wide_margin or "none", *(f"{100 * f:.1f}" for f in figures)])
    headers = ["margin", "wide margin", "mean F1", "pixel accuracy", *names]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
