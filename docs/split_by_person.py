"""Lists for the sets of `configs/celebamask_hq_wild.py`, which come without any.

    python -m docs.split_by_person DATA OUT

from the repository's root. `DATA` holds `lfw_parts`, `figaro`, `fasseg`, `youtube` and `utkface`,
each with `images/` and `labels/`, `points.csv` or neither; `OUT` gets a folder for each with links
to those and `train_list.txt` and `val_list.txt`. Who is judged is never trained on: a person is
kept for judging where the SHA-256 of the name, as a number, is divisible by seven
(`docs/wild_sets.py`). A person is, of LFW's and YouTube Faces' file names, what comes before the
number at the end, of FASSEG's the number in it, and every photograph of Figaro1k and UTKFace, where
nobody knows who is who.
"""

import argparse
import pathlib
from collections.abc import Callable

from dmlcsr_jax.atomic_file import make_folder
from docs.wild_sets import before_number, fasseg_turn, is_judged

PERSONS: dict[str, Callable[[str], str]] = {
    "lfw_parts": before_number,
    "figaro": str,
    "fasseg": lambda stem: fasseg_turn(stem)[1],
    "youtube": before_number,
    "utkface": str,
}


def split(folder: pathlib.Path, out: pathlib.Path, person: Callable[[str], str]) -> None:
    """Writes the two lists of one set and the links beside them; prints their lengths."""
    make_folder(out)
    for part in folder.iterdir():
        link = out / part.name
        if not link.exists():
            link.symlink_to(part.resolve())
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for image in sorted((folder / "images").iterdir()):
        pair = f"images/{image.name}"
        if (folder / "labels").is_dir():
            pair += f" labels/{image.stem}.png"
        lines["val" if is_judged(person(image.stem)) else "train"].append(pair)
    for name, listed in lines.items():
        (out / f"{name}_list.txt").write_text("".join(f"{line}\n" for line in listed))
    print(f"{out}: {len(lines['train'])} to train on, {len(lines['val'])} to judge by")


def main() -> None:
    """Runs the command line."""
    arguments = argparse.ArgumentParser(prog="python -m docs.split_by_person", description=__doc__)
    arguments.add_argument("data", type=pathlib.Path)
    arguments.add_argument("out", type=pathlib.Path)
    args = arguments.parse_args()
    for name, person in PERSONS.items():
        split(args.data / name, args.out / name, person)


if __name__ == "__main__":
    main()
