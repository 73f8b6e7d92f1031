"""Measures a model under changes of the photographs, for docs/model_card.md.

    python -m docs.measure_model --root=FOLDER[,FOLDER...] [--checkpoint=DIR]

from the repository's root, where each `FOLDER` holds `images/`, `labels/` and `val_list.txt`. Each
photograph is changed, parsed, and its label map is brought back onto the photograph as it was and
compared with the true labels there, so that all rows count the same pixels. Prints a table.
"""

import argparse
import itertools
import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from tabulate import tabulate
from tqdm import tqdm

from dmlcsr_jax import FaceParser
from dmlcsr_jax.data.sources import FolderSource
from dmlcsr_jax.evaluation.evaluate import image_score
from dmlcsr_jax.evaluation.metrics import summarize
from docs.confusion import confusion_matrix

IGNORE_LABEL = 255
# What is shown of the classes that a change may touch most.
SHOWN = ("skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "hair", "cloth")
# Photographs that show these are counted in a row of their own too.
WORN = ("eye_g", "hat", "ear_r", "neck_l")
_FEWEST_PIXELS = 100
_BATCH_SIZE = 16

# A change gives the changed photograph, and how to bring a label map of it back.
Change = Callable[[np.ndarray], tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]]


def same(image):
    """Leaves a photograph as it is."""
    return image, lambda label: label


def smaller(factor: int) -> Change:
    """Reduces a photograph, so that its face is so many times smaller."""

    def change(image):
        hw = image.shape[:2]
        small = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        return small, lambda label: cv2.resize(label, hw[::-1], interpolation=cv2.INTER_NEAREST)

    return change


def turned(degrees: float) -> Change:
    """Turns a photograph about its centre; corners that leave it count nowhere."""

    def change(image):
        hw = image.shape[:2]
        centre = (hw[1] - 1) / 2, (hw[0] - 1) / 2
        matrix = cv2.getRotationMatrix2D(centre, degrees, 1.0)
        image = cv2.warpAffine(image, matrix, hw[::-1], borderMode=cv2.BORDER_REFLECT)
        back = {"flags": cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, "borderValue": IGNORE_LABEL}
        return image, lambda label: cv2.warpAffine(label, matrix, hw[::-1], **back)

    return change


def darker(factor: int) -> Change:
    """Gives a photograph so many times less light, counted in linear light."""
    table = np.uint8(np.round(255 * (np.arange(256) / 255) * factor ** (-1 / 2.2)))
    return lambda image: (table[image], lambda label: label)


def noisy(sigma: float) -> Change:
    """Adds normal noise of so many grey levels."""

    def change(image):
        noise = np.random.default_rng(0).normal(0, sigma, image.shape)
        return np.uint8(np.clip(np.round(image + noise), 0, 255)), lambda label: label

    return change


def as_jpeg(quality: int) -> Change:
    """Stores a photograph as a JPEG file of a quality, 1 to 100."""

    def change(image):
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.imdecode(data, cv2.IMREAD_COLOR), lambda label: label

    return change


CHANGES: dict[str, Change] = {
    "as it is": same,
    "256 pixels": smaller(2),
    "128 pixels": smaller(4),
    "64 pixels": smaller(8),
    "32 pixels": smaller(16),
    "turned by 15 degrees": turned(15),
    "turned by 30 degrees": turned(30),
    "turned by 60 degrees": turned(60),
    "turned by 180 degrees": turned(180),
    "a quarter of the light": darker(4),
    "a 16th of the light": darker(16),
    "noise of 20 grey levels": noisy(20),
    "JPEG quality 10": as_jpeg(10),
}


class Tally:
    """Confusion matrix and image scores of one row of the table."""

    def __init__(self, label_set):
        self.label_set = label_set
        self.confusion = np.zeros((label_set.num_classes,) * 2, np.int64)
        self.scores: list[float] = []

    def add(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """Counts a photograph; both uint8 `[H, W]`."""
        label = np.where(prediction == IGNORE_LABEL, IGNORE_LABEL, label)
        prediction = np.where(label == IGNORE_LABEL, 0, prediction)
        confusion = confusion_matrix(label, prediction, self.label_set.num_classes, IGNORE_LABEL)
        self.confusion += confusion
        score = image_score(confusion, self.label_set)
        if not math.isnan(score):
            self.scores.append(score)

    def row(self) -> list[str]:
        """Returns the figures, per cent."""
        summary = summarize(self.confusion, self.label_set)
        parts = [summary["classes"][name]["f1"] for name in SHOWN]
        figures = [summary["mean_f1"], summary["miou"], np.mean(self.scores), *parts]
        return [f"{100 * figure:.1f}" for figure in figures]


def measure(parser: FaceParser, roots: Sequence[str]) -> list[list[str]]:
    """Returns the rows of the table, each its name and its figures."""
    label_set = parser.label_set
    sources = [FolderSource(root, "val", label_set) for root in roots]
    names = [*CHANGES, *(f"with {part}" for part in WORN), f"with none of {', '.join(WORN)}"]
    tallies = {name: Tally(label_set) for name in names}
    examples = itertools.chain.from_iterable(
        (source[index] for index in range(len(source))) for source in sources
    )
    with tqdm(total=sum(map(len, sources)) * len(CHANGES), unit="image") as bar:
        while batch := list(itertools.islice(examples, _BATCH_SIZE)):
            for name, change in CHANGES.items():
                changed, back = zip(*(change(example["image"]) for example in batch), strict=True)
                predictions = [result.label for result in parser(list(changed))]
                for example, prediction, way in zip(batch, predictions, back, strict=True):
                    label, prediction = example["label"], way(prediction)
                    tallies[name].add(label, prediction)
                    if name == "as it is":
                        for row in worn(label, label_set):
                            tallies[row].add(label, prediction)
                bar.update(len(batch))
    return [[name, str(len(tally.scores)), *tally.row()] for name, tally in tallies.items()]


def worn(label: np.ndarray, label_set) -> list[str]:
    """Returns the rows of what a photograph's labels show of `WORN`."""
    areas = {part: np.sum(label == label_set.classes.index(part)) for part in WORN}
    shown = [f"with {part}" for part, area in areas.items() if area >= _FEWEST_PIXELS]
    return shown or [f"with none of {', '.join(WORN)}"] * (not any(areas.values()))


def main() -> None:
    """Runs the command line."""
    arguments = argparse.ArgumentParser(prog="python -m docs.measure_model", description=__doc__)
    arguments.add_argument("--root", required=True, help="folders of validation photographs")
    arguments.add_argument("--checkpoint", default="default", help="the model (default: default)")
    arguments.add_argument("--flip", action="store_true", help="average with the mirrored view")
    arguments.add_argument("--backend", default="jax", help="what runs it (default: %(default)s)")
    given = arguments.parse_args()
    parser = FaceParser(
        given.checkpoint,
        faces="whole",
        batch_size=_BATCH_SIZE,
        flip=given.flip,
        backend=given.backend,
    )
    rows = measure(parser, given.root.split(","))
    headers = ["photograph", "images", "mean F1", "mIoU", "mean over images", *SHOWN]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
