"""Measures a model on the field's sets, whose labels are groups, points, or none.

    python -m docs.measure_wild --root=FOLDER [--checkpoint=DIR] [--limit=N] [--all] [--out=JSON]

from the repository's root, with the extra `faces` and scikit-image; `FOLDER` holds one or more of
`lfw_parts`, `figaro` and `fasseg` (`images/` and `labels/`), `youtube` (`images/`, `points.csv`),
`utkface` (`images/`) and `face_synthetics_100` (`NAME.png` and `NAME_seg.png`). Photographs are
parsed as `FaceParser` does by default. Judged are the persons that `wild_sets.is_judged` names.
Prints a table, per cent.
"""

import argparse
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from dmlcsr_jax import FaceParser
from dmlcsr_jax.atomic_file import write_text
from dmlcsr_jax.data.label_sets import CELEBAMASK_HQ
from dmlcsr_jax.errors import UserError, exit_on_user_error
from dmlcsr_jax.evaluation.metrics import json_safe
from dmlcsr_jax.progress import progress_bar
from docs import wild_sets

_BATCH_SIZE = 16
_HAT = CELEBAMASK_HQ.classes.index("hat")

Parse = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def pictures_without_a_face() -> dict[str, np.ndarray]:
    """Returns uint8 `[H, W, 3]` RGB pictures in which nothing is to be labelled, by name.

    Raises:
      UserError: where scikit-image, which has the photographs, is not installed.
    """
    try:
        import skimage.data
    except ModuleNotFoundError as error:
        raise UserError("the pictures without a face are scikit-image's; install it.") from error
    pictures = {}
    for name in ("grass", "gravel", "brick", "page", "text", "coins", "coffee"):
        image = getattr(skimage.data, name)()
        pictures[name] = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    height = np.linspace(0, 1, 384)[:, None, None]
    for name, top, bottom in (
        ("blue sky", (60, 110, 190), (190, 215, 240)),
        ("evening sky", (50, 50, 110), (250, 160, 90)),
        ("white", (255,) * 3, (255,) * 3),
        ("grey", (128,) * 3, (128,) * 3),
        ("black", (0,) * 3, (0,) * 3),
        ("skin's colour", (214, 170, 140), (214, 170, 140)),
    ):
        rows = (1 - height) * np.array(top) + height * np.array(bottom)
        pictures[name] = np.repeat(np.uint8(np.rint(rows)), 512, axis=1)
    return pictures


def labelled(label: np.ndarray) -> wild_sets.Figures:
    """Returns the share of a label map's pixels that are no background, and that are hat."""
    return {"labelled": float(np.mean(label != 0)), "hat": float(np.mean(label == _HAT))}


def choose(files: list[pathlib.Path], a_set: Any, everyone: bool, limit: int | None):
    """Returns the photographs that are judged, spread evenly where there are more than a limit."""
    judged = [f for f in files if everyone or wild_sets.is_judged(a_set.person(f.stem))]
    if limit is None or len(judged) <= limit:
        return judged
    return [judged[index * len(judged) // limit] for index in range(limit)]


def measure(
    parse: Parse, root: pathlib.Path, *, everyone: bool = False, limit: int | None = None
) -> dict[str, dict[str, Any]]:
    """Returns the number of photographs and the figures of each set whose folder is there.

    Args:
      parse: gives the label maps, uint8 `[H, W]` of CelebAMask-HQ's classes, of photographs, uint8
        `[H, W, 3]` RGB.
      root: holds the sets' folders.
      everyone: judges persons of the training part too.
      limit: at most so many photographs a set.

    Raises:
      UserError: where no set is there, or a file cannot be read or is not named as its set's are.
    """
    known = wild_sets.sets()
    there = {name: a_set for name, a_set in known.items() if (root / name).is_dir()}
    if not there:
        raise UserError(f"{root} holds none of {', '.join(known)}; give the folder of the sets.")
    files = {n: choose(a.files(root / n), a, everyone, limit) for n, a in there.items()}
    with progress_bar(
        sum(map(len, files.values())), unit="image", description="measure", is_shown=True
    ) as bar:
        for name, a_set in there.items():
            for batch in _batched(files[name]):
                images, truths = zip(*map(a_set.read, batch), strict=True)
                for counted in zip(batch, truths, parse(images), strict=True):
                    a_set.add(*counted)
                bar.update(len(batch))
    return {n: {"images": len(files[n]), "figures": a.figures()} for n, a in there.items()}


def _batched(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, _BATCH_SIZE)):
        yield batch


def table(found: dict[str, dict[str, Any]]) -> str:
    """Returns the figures as a table, per cent."""
    rows = [
        [name, str(of_set["images"]), what, "" if math.isnan(value) else f"{100 * value:.1f}"]
        for name, of_set in found.items()
        for what, value in of_set["figures"].items()
    ]
    headers = ["set", "images", "what", "per cent"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


@exit_on_user_error
def main() -> None:
    """Runs the command line."""
    arguments = argparse.ArgumentParser(prog="python -m docs.measure_wild", description=__doc__)
    arguments.add_argument("--root", required=True, type=pathlib.Path, help="the sets' folder")
    arguments.add_argument("--checkpoint", default="default", help="the model (default: default)")
    arguments.add_argument("--limit", type=int, help="at most so many photographs a set")
    arguments.add_argument("--all", action="store_true", help="persons of the training part too")
    arguments.add_argument("--out", help="a JSON file for the figures, parts of 1")
    given = arguments.parse_args()
    parser = FaceParser(given.checkpoint, batch_size=_BATCH_SIZE)
    if parser.label_set.classes != CELEBAMASK_HQ.classes:
        raise UserError(f"{given.checkpoint} has other classes than CelebAMask-HQ's 19.")

    def parse(images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [result.label for result in parser(list(images))]

    pictures = pictures_without_a_face()
    found = measure(parse, given.root, everyone=given.all, limit=given.limit)
    for name, label in zip(pictures, parse(list(pictures.values())), strict=True):
        found[f"no face: {name}"] = {"images": 1, "figures": labelled(label)}
    print(table(found))
    if given.out:
        write_text(given.out, json.dumps(json_safe(found), indent=2) + "\n")


if __name__ == "__main__":
    main()
