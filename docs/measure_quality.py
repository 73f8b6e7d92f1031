"""Measures how well the quality of a face tells the photographs that are parsed badly.

    python -m docs.measure_quality --root=FOLDER [--root=FOLDER] [--count=400] [--checkpoint=FILE]

from the repository's root, with the extra `faces` and an ONNX runtime; `FOLDER/val_list.txt` holds
an image and a label map a line, with CelebAMask-HQ's labels. Each photograph is shown as it is and
changed in two of seven ways. The mean F1 is that of the close view of the largest face found, over
the classes that its truth shows. A logistic regression is fitted to one half of the photographs;
of the other half it is printed how many of the lowest tenth by mean F1 are in the worst tenth by
quality, with the constants of the file and with those just fitted.
"""

import argparse
import pathlib

import cv2
import numpy as np
import scipy.optimize
from tabulate import tabulate
from tqdm import tqdm

from dmlcsr_jax.data import geometry, unwarp
from dmlcsr_jax.data.decode import decode_image, decode_label, read_bytes
from dmlcsr_jax.data.label_sets import CELEBAMASK_HQ
from dmlcsr_jax.predict import faces, quality, views
from dmlcsr_jax.predict.networks import open_network
from docs.confusion import confusion_matrix

CHANGES = ("turned", "small", "blurred", "dark", "noisy", "compressed", "cut")
LABELS = CELEBAMASK_HQ
# Fewer pixels of a class in a truth are no class of it: an F1 of a few pixels is chance.
LEAST_PIXELS = 20


def changed(image, label, change: str, rng: np.random.Generator):
    """Returns a photograph and its label map, changed at random in one of `CHANGES`."""
    height, width = label.shape
    if change == "turned":
        turn = cv2.getRotationMatrix2D(
            ((width - 1) / 2, (height - 1) / 2), rng.uniform(-180, 180), 1
        )
        nearest = cv2.warpAffine(label, turn, (width, height), flags=cv2.INTER_NEAREST)
        return cv2.warpAffine(image, turn, (width, height)), nearest
    if change == "small":
        size = (int(rng.integers(32, 110)),) * 2
        return (
            cv2.resize(image, size, interpolation=cv2.INTER_AREA),
            cv2.resize(label, size, interpolation=cv2.INTER_NEAREST),
        )
    if change == "blurred":
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(2, 9)), label
    if change == "dark":
        return (image * rng.uniform(0.03, 0.3)).astype(np.uint8), label
    if change == "noisy":
        noise = rng.normal(0, rng.uniform(15, 80), image.shape)
        return np.clip(image + noise, 0, 255).astype(np.uint8), label
    if change == "compressed":
        quality_of_jpeg = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(3, 20))]
        return cv2.imdecode(cv2.imencode(".jpg", image, quality_of_jpeg)[1], 1), label
    rows, columns = slice(None), slice(None)
    part = rng.uniform(0.3, 0.65)
    if rng.random() < 0.5:
        at = int(part * height)
        rows = slice(0, at) if rng.random() < 0.5 else slice(at, None)
    else:
        at = int(part * width)
        columns = slice(0, at) if rng.random() < 0.5 else slice(at, None)
    return image[rows, columns].copy(), label[rows, columns].copy()


class Looks:
    """From a photograph to its largest face and the scores of the face's close view."""

    def __init__(self, checkpoint: str):
        self._network = open_network(checkpoint)
        self._detector = faces.default_detector()

    def __call__(self, image: np.ndarray):
        """Returns face, log-probabilities `[h, h, C]`, matrix to their grid; None without face."""
        found = faces.find(self._detector, image)
        if not found:
            return None
        face, size = found[0], self._network.metadata.image_size
        matrix = geometry.box_matrix(np.array(face.box) - 0.5, size, margin=0.4, angle=-face.roll)
        scores = np.asarray(self._network.scores(views.shown(image, matrix, size)[None]))[0]
        return face, scores, unwarp.grid_matrix(matrix, size, scores.shape[0])


def mean_f1(log_probabilities, matrix, label) -> float:
    """Returns the mean F1 over the classes that the truth shows in the view."""
    predicted = unwarp.sample(log_probabilities, matrix, label.shape).argmax(-1)
    grid = np.ones(log_probabilities.shape[:2], np.uint8)
    shown = cv2.warpAffine(
        grid, matrix, label.shape[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    label = np.where(shown > 0, label, LABELS.ignore_label)
    confusion = confusion_matrix(label, predicted, LABELS.num_classes)
    truth = confusion.sum(1)
    present = [i for i in LABELS.mean_f1_classes if truth[i] >= LEAST_PIXELS]
    hits = confusion.diagonal()[present]
    return float(np.mean(2 * hits / (truth + confusion.sum(0))[present])) if present else 0.0


def fitted(values: np.ndarray, f1: np.ndarray) -> np.ndarray:
    """Returns the weights, the bias last, of `quality.measures` `[n, 4]` for the logits of `f1`.

    Upright and smallness weigh something at least: few of the photographs have such faults.
    """
    f1 = np.clip(f1, 0.02, 0.98)
    values = np.column_stack([values, np.ones(len(values))])
    least = np.array([0, 0, 0.5, 0.08, -np.inf])
    return scipy.optimize.lsq_linear(values, np.log(f1 / (1 - f1)), bounds=(least, np.inf)).x


def share_held(worth: np.ndarray, f1: np.ndarray) -> float:
    """Returns the share of the lowest tenth by F1 that is in the lowest tenth by `worth`."""
    count = max(1, round(len(f1) / 10))
    return len(set(np.argsort(f1)[:count]) & set(np.argsort(worth)[:count])) / count


def main() -> None:
    """Runs the command line."""
    arguments = argparse.ArgumentParser(prog="python -m docs.measure_quality", description=__doc__)
    arguments.add_argument("--root", required=True, action="append", type=pathlib.Path)
    arguments.add_argument("--count", type=int, default=400, help="photographs (default: 400)")
    arguments.add_argument("--checkpoint", default="default", help="the model (default: default)")
    given = arguments.parse_args()
    pairs = [
        [root / name for name in line.split()]
        for root in given.root
        for line in (root / "val_list.txt").read_text().splitlines()
    ]
    np.random.default_rng(0).shuffle(pairs)
    looks, rows = Looks(given.checkpoint), []
    for number, (image_path, label_path) in enumerate(tqdm(pairs[: given.count])):
        image = decode_image(read_bytes(image_path), str(image_path))
        label = decode_label(read_bytes(label_path), str(label_path), LABELS)
        rng = np.random.default_rng(number)
        for change in (None, *rng.choice(CHANGES, 2, replace=False)):
            shown, truth = changed(image, label, change, rng) if change else (image, label)
            seen = looks(shown)
            if seen is None:
                continue
            face, scores, matrix = seen
            values = quality.measures(scores, matrix, face.box, LABELS)
            value, reasons = quality.quality(
                scores, matrix, face.box, face.score, face.roll, truth.shape, LABELS
            )
            f1 = mean_f1(scores, matrix, truth)
            rows.append((number % 2, change or "as it is", f1, value, values, len(reasons)))
    halves, f1, value = (np.array([row[i] for row in rows]) for i in (0, 2, 3))
    values = np.array([row[4] for row in rows])
    weights = fitted(values[halves == 0], f1[halves == 0])
    held_out = halves == 1
    again = values[held_out] @ weights[:-1]
    print("views, held out:", len(rows), held_out.sum())
    print("weights of the other half:", weights.round(2))
    print("lowest tenth held, constants:", round(share_held(value[held_out], f1[held_out]), 3))
    print("lowest tenth held, fitted anew:", round(share_held(again, f1[held_out]), 3))
    table = []
    for change in ("as it is", *CHANGES):
        of = np.array([row[1] == change for row in rows])
        doubted = np.mean([row[5] > 0 for row, holds in zip(rows, of, strict=True) if holds])
        figures = [f1[of].mean(), value[of].mean(), doubted]
        table.append([change, of.sum(), *(f"{100 * figure:.1f}" for figure in figures)])
    headers = ["photographs", "views", "mean F1", "quality", "with a reason"]
    print(tabulate(table, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
