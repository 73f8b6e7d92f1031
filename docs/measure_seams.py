"""Measures where label maps change along the borders of the views that they are made of.

    python -m docs.measure_seams PHOTOGRAPH_OR_FOLDER... [--checkpoint=DIR]

from the repository's root, with the extra `faces`. Of the points of a border that lie in the
photograph, the share is counted whose labels differ a little further out and a little further in:
1.5 pixels, or 1.2 % of the face where that is more. A line further inside, where no view ends,
tells what share to expect. Prints a line a photograph, the worst first, and what all come to.
"""

import argparse
import pathlib

import numpy as np
from tqdm import tqdm

from dmlcsr_jax import FaceParser

# Of the close view's side, where no view ends.
_INSIDE = 0.87
_POINTS = 400
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# Of a border, in the photograph: less tells nothing.
_FEWEST = 200


def changes(label: np.ndarray, face, side: float) -> tuple[int, int]:
    """Returns at how many points of a square about a face labels change, and of how many.

    Args:
      label: uint8 `[H, W]`.
      face: a `Face`; the square is turned as it is.
      side: of the square, pixels.
    """
    offset = max(1.5, 0.012 * face.side)
    along = np.linspace(-0.48, 0.48, _POINTS) * side
    cos, sin = np.cos(face.roll), np.sin(face.roll)

    def read(half: float) -> np.ndarray:
        edge = np.full_like(along, half)
        sides = [(along, -edge), (along, edge), (-edge, along), (edge, along)]
        x, y = np.concatenate(sides, axis=1)
        column = np.floor(face.middle[0] + cos * x - sin * y).astype(int)
        row = np.floor(face.middle[1] + sin * x + cos * y).astype(int)
        is_inside = (column >= 0) & (row >= 0) & (column < label.shape[1]) & (row < label.shape[0])
        found = np.full(x.shape, -1)
        found[is_inside] = label[row[is_inside], column[is_inside]]
        return found

    inner, outer = read(side / 2 - offset), read(side / 2 + offset)
    is_seen = (inner >= 0) & (outer >= 0)
    return int(((inner != outer) & is_seen).sum()), int(is_seen.sum())


def shares(parser: FaceParser, path: pathlib.Path) -> list[float] | None:
    """Returns the shares at the close views' borders, inside, and at the wide views', per cent.

    None where no face is found, or its close view goes around the photograph.
    """
    result = parser(path)
    margins = (parser.margin, parser.margin, parser.wide_margin)
    totals = np.zeros((3, 2))
    for face in result.faces:
        for total, margin, scale in zip(totals, margins, (1, _INSIDE, 1), strict=True):
            total += changes(result.label, face, scale * face.side * (1 + 2 * margin))
    if totals[0, 1] < _FEWEST:
        return None
    return list(100 * totals[:, 0] / np.maximum(totals[:, 1], 1))


def main() -> None:
    """Runs the command line."""
    arguments = argparse.ArgumentParser(prog="python -m docs.measure_seams", description=__doc__)
    arguments.add_argument("photographs", nargs="+", type=pathlib.Path, help="files or folders")
    arguments.add_argument("--checkpoint", default="default", help="the model (default: default)")
    given = arguments.parse_args()
    parser = FaceParser(given.checkpoint)
    paths = []
    for path in given.photographs:
        paths += sorted(path.rglob("*")) if path.is_dir() else [path]
    paths = [path for path in paths if path.suffix.lower() in _SUFFIXES]
    found = {path: shares(parser, path) for path in tqdm(paths, leave=False)}
    found = {path: row for path, row in found.items() if row is not None}
    for path, row in sorted(found.items(), key=lambda one: -one[1][0]):
        print("border {:.1f} %, inside {:.1f} %, wide border {:.1f} %: {}".format(*row, path))
    for name, column in zip(
        ("border", "inside", "wide border"), zip(*found.values(), strict=True), strict=True
    ):
        print(
            f"{name} of {len(found)} photographs: median {np.median(column):.1f} %, "
            f"worst {max(column):.1f} %, above 10 % in {sum(share > 10 for share in column)}"
        )


if __name__ == "__main__":
    main()
