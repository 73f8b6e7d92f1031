"""Draws docs/faces.png, or its like: drawn faces, what a network makes of them, and both together.

    python -m docs.draw_faces runs/synthetic

from the repository's root, where `runs/synthetic` is the workdir of README's first command, writes
`runs/synthetic/faces.png` unless `--out=FILE` is given.
"""

import argparse
import pathlib

import numpy as np
import PIL.Image

from dmlcsr_jax import FaceParser, visualization
from dmlcsr_jax.data.synthetic import draw_face

SERIES = 10**6  # None of the run's own faces is in it.
SIDE = 256


def main() -> None:
    """Writes the picture."""
    arguments = argparse.ArgumentParser(prog="python -m docs.draw_faces", description=__doc__)
    arguments.add_argument("workdir", type=pathlib.Path, help="of the run")
    arguments.add_argument("--out", type=pathlib.Path, help="the picture (WORKDIR/faces.png)")
    given = arguments.parse_args()
    parser = FaceParser(given.workdir, faces="whole")
    tiles = []
    for index in range(2):
        image, _ = draw_face(index, SIDE, SERIES)
        label = parser(image).label
        painted = visualization.paint(label, parser.label_set)
        tiles += [image, painted, visualization.overlay(image, label, parser.label_set)]
    sheet = visualization.grid(
        [tiles], column_titles=["input", "label map", "overlay"] * 2, tile_size=150
    )
    legend = visualization.legend(parser.label_set, sheet.shape[1])
    path = given.out or given.workdir / "faces.png"
    PIL.Image.fromarray(np.concatenate([sheet, legend])).save(path)


if __name__ == "__main__":
    main()
