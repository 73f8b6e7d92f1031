"""Draws docs/faces.png: drawn faces, what a network makes of them, and both together.

    python -m docs.draw_faces runs/synthetic

from the repository's root, where `runs/synthetic` is the workdir of README's first command.
"""

import pathlib
import sys

import numpy as np
import PIL.Image

from dmlcsr_jax import FaceParser, visualization
from dmlcsr_jax.data.synthetic import draw_face

SERIES = 10**6  # None of the run's own faces is in it.
SIDE = 256


def main(workdir: str) -> None:
    """Writes the picture beside this file."""
    parser = FaceParser(workdir, faces="whole")
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
    path = pathlib.Path(__file__).with_name("faces.png")
    PIL.Image.fromarray(np.concatenate([sheet, legend])).save(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
