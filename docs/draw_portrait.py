"""Draws a photograph, what the model in the box makes of it, and both together.

    python -m docs.draw_portrait --out=portrait.png

from the repository's root, with the extra `faces`. The photograph, docs/astronaut.jpg, is NASA's of
Eileen Collins, in the public domain, as in scikit-image's `data.astronaut`.
"""

import argparse
import pathlib

import numpy as np
import PIL.Image

from dmlcsr_jax import FaceParser, visualization

FOLDER = pathlib.Path(__file__).parent


def main() -> None:
    """Writes the picture."""
    arguments = argparse.ArgumentParser(prog="python -m docs.draw_portrait", description=__doc__)
    arguments.add_argument(
        "--out", default="portrait.png", help="the picture (default: %(default)s)"
    )
    out = arguments.parse_args().out
    parser = FaceParser(backend="jax")
    photograph = np.asarray(PIL.Image.open(FOLDER / "astronaut.jpg"))
    result = parser(photograph)
    painted = visualization.paint(result.label, parser.label_set)
    tiles = [photograph, painted, visualization.overlay(photograph, result.label, parser.label_set)]
    sheet = visualization.grid(
        [tiles], column_titles=["photograph", "label map", "overlay"], tile_size=300
    )
    legend = visualization.legend(parser.label_set, sheet.shape[1])
    PIL.Image.fromarray(np.concatenate([sheet, legend])).save(out)


if __name__ == "__main__":
    main()
