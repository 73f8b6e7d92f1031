"""Draws what the commands of docs/masks.md make of the portrait.

    python -m docs.draw_masks --out=docs/masks.jpg

from the repository's root, with the extras `faces` and `soft`.
"""

import argparse
import pathlib
import tempfile

import numpy as np
import PIL.Image

from dmlcsr_jax import visualization
from dmlcsr_jax.predict.__main__ import main as predict

FOLDER = pathlib.Path(__file__).parent
TILES = {
    "--masks=hair": "masks/hair",
    "--masks=face": "masks/face",
    "--cutout=hair": "cutouts/hair",
    "--masks=hair --grow=2%": "masks/hair",
    "--masks=hair --feather=5%": "masks/hair",
    "--masks=hair --soft": "masks/hair",
    "--masks=forehead": "masks/forehead",
    "--masks=left_cheek": "masks/left_cheek",
    "--masks=head": "masks/head",
}


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(prog="python -m docs.draw_masks", description=__doc__)
    parser.add_argument("--out", default="masks.jpg", help="the picture (default: %(default)s)")
    path = parser.parse_args().out
    tiles = []
    for options, folder in TILES.items():
        with tempfile.TemporaryDirectory() as out:
            predict([str(FOLDER / "astronaut.jpg"), *options.split(), f"--out={out}"])
            with PIL.Image.open(pathlib.Path(out) / folder / "astronaut.png") as file:
                # What is transparent is shown on white.
                tile = file.convert("RGBA")
        white = PIL.Image.new("RGBA", tile.size, "white")
        tiles.append(np.asarray(PIL.Image.alpha_composite(white, tile).convert("RGB")))
    titles = [*TILES]
    rows = [
        visualization.grid([tiles[at : at + 3]], column_titles=titles[at : at + 3], tile_size=220)
        for at in range(0, len(tiles), 3)
    ]
    PIL.Image.fromarray(np.concatenate(rows)).save(path, quality=85)


if __name__ == "__main__":
    main()
