"""Compares hair's soft masks with the fine masks of Figaro-1k, for docs/masks.md.

    python -m docs.measure_soft FIGARO [--num_images=12]

from the repository's root, with the extras `faces` and `soft`. FIGARO holds `images/*.jpg` and
`labels/*.png`, in which 1 is hair; those measured are spread evenly over the names. Of each way it
prints the mean absolute error of alpha, the boundary F1 of alpha cut at a half, at a tolerance of
two pixels, both of each photograph alone and then averaged, and the seconds a photograph.
"""

import argparse
import pathlib
import time

import cv2
import numpy as np
import PIL.Image
import pymatting

from dmlcsr_jax import FaceParser
from dmlcsr_jax.predict.alpha import refined, trimap

TOLERANCE = 2
# Shares of the longer side: half the width of a trimap's unknown, a filter's radius.
BANDS = (0.005, 0.01, 0.02)
# As much as a box of 3 megapixels around a part is reduced.
REDUCED = 24


def guided(image: np.ndarray, probability: np.ndarray, band: float) -> np.ndarray:
    """Returns He's guided filter with a grey guide, of OpenCV's box filter."""
    guide = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    size = (2 * max(1, round(band * max(guide.shape))) + 1,) * 2

    def mean(values):
        return cv2.blur(values, size)

    of_guide, of_alpha = mean(guide), mean(probability)
    slope = (mean(guide * probability) - of_guide * of_alpha) / (
        mean(guide * guide) - of_guide**2 + 1e-4
    )
    return np.clip(mean(slope) * guide + mean(of_alpha - slope * of_guide), 0, 1)


def matted(method, image: np.ndarray, probability: np.ndarray, band: float) -> np.ndarray:
    """Returns the alpha that a way of pymatting finds in the trimap."""
    unknown = trimap(probability, band * max(probability.shape))
    if not (unknown == 1).any() or not (unknown == 0).any():
        return probability
    return method(image / 255, unknown)


def boundary_f1(found: np.ndarray, truth: np.ndarray) -> float:
    """Returns the F1 of two bool masks' boundaries, of pixels at most `TOLERANCE` apart."""
    edges = [mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
             for mask in (found, truth)]  # fmt: skip
    near = [cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5) <= TOLERANCE
            for edge in edges]  # fmt: skip
    precision = near[1][edges[0]].mean() if edges[0].any() else 0.0
    recall = near[0][edges[1]].mean() if edges[1].any() else 0.0
    return 2 * precision * recall / max(precision + recall, 1e-9)


def ways():
    """Returns each way's name with its function of photograph, probability and hard mask."""
    found = {
        "hard": lambda image, soft, hard: hard.astype(np.float32),
        "soft": lambda image, soft, hard: soft,
    }
    methods = {"closed form": pymatting.estimate_alpha_cf, "KNN": pymatting.estimate_alpha_knn}
    for band in BANDS:
        found[f"guided filter, {band:.1%}"] = lambda i, s, h, b=band: guided(i, s, b)
        for name, method in methods.items():
            found[f"{name}, {band:.1%}"] = lambda i, s, h, m=method, b=band: matted(m, i, s, b)
    found[f"in use, of 1/{REDUCED} of the pixels"] = lambda i, s, h: refined(
        i, s, round(s.size / REDUCED)
    )
    return found


def main() -> None:
    """Prints a row of Markdown a way."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("figaro", type=pathlib.Path)
    arguments.add_argument("--num_images", type=int, default=12)
    given = arguments.parse_args()
    paths = sorted((given.figaro / "images").glob("*.jpg"))
    paths = paths[:: max(1, len(paths) // given.num_images)][: given.num_images]
    parser = FaceParser()
    figures = {name: [] for name in ways()}
    for path in paths:
        result = parser(path)
        truth = np.asarray(PIL.Image.open(given.figaro / "labels" / f"{path.stem}.png")) == 1
        soft, hard = result.probabilities("hair"), result.mask("hair")
        for name, way in ways().items():
            started = time.perf_counter()
            alpha = way(result.image, soft, hard)
            seconds = time.perf_counter() - started
            error = np.abs(alpha - truth).mean()
            figures[name].append((error, boundary_f1(alpha >= 0.5, truth), seconds))
        print(path.name, truth.shape, flush=True)
    print("| way | mean absolute error, % | boundary F1, % | seconds |\n|---|---|---|---|")
    for name, values in figures.items():
        error, boundary, seconds = np.mean(values, axis=0)
        print(f"| {name} | {100 * error:.2f} | {100 * boundary:.2f} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
