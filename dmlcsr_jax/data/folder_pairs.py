"""Which photographs and label maps of a folder belong together, and in which split they are.

`{split}_list.txt` says so; where there is no list, equal names do: `images/ID.*`, `labels/ID.png`.
A tenth of the names, chosen by themselves, is then "val" (or "test"), the others are "train".
"""

import hashlib
import logging
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from etils import epath

from dmlcsr_jax.data.decode import read_bytes
from dmlcsr_jax.errors import UserError

log = logging.getLogger(__name__)

_LIST = "_list.txt"
_LABEL = ".png"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".JPG", ".JPEG", ".PNG")
HELD_OUT = ("val", "test")
_HELD_OUT_SHARE = 0.1

Root = pathlib.Path | epath.Path
Pairs = list[tuple[str, str]]


def list_splits(root: Root) -> list[str]:
    """Returns the splits that a folder's lists make, or without lists "train" and "val"."""
    return _lists(root) or ["train", HELD_OUT[0]]


def read_pairs(root: Root, split: str, check_files: bool) -> Pairs:
    """Returns the photographs and label maps of a split, relative to the folder.

    Args:
      root: the folder.
      split: which.
      check_files: whether a listed file that is missing is an error.

    Raises:
      UserError: where there is no such split, it is empty, a list is not understood, or a listed
        file is missing.
    """
    lists = _lists(root)
    if split in lists:
        return _listed(root, split, check_files)
    if not lists and split in ("train", *HELD_OUT):
        return _by_names(root, split)
    names = ", ".join(f"{name}{_LIST}" for name in lists)
    raise UserError(
        f"there is no list {split}{_LIST} in {root}; "
        + (f"the lists there are {names}." if lists else "write one, or choose the split val.")
    )


def _lists(root: Root) -> list[str]:
    return sorted(path.name.removesuffix(_LIST) for path in root.glob(f"*{_LIST}"))


def _by_names(root: Root, split: str) -> Pairs:
    """Returns the pairs of equal names; a photograph's split depends on its own name alone."""
    files = _Listing(root)
    images = _by_stem(root, "images", files, {suffix.lower() for suffix in IMAGE_SUFFIXES})
    labels = _by_stem(root, "labels", files, {_LABEL})
    stems = sorted(images.keys() & labels.keys())
    if len(stems) < 2:
        raise UserError(
            f"{root} has no list, and {len(stems)} of the {len(images)} photographs in its images/ "
            f"have a label map of the same name in labels/ (ID.jpg, ID{_LABEL}); name them alike, "
            f"or write train{_LIST} with a photograph and its label map a line."
        )
    chosen = held_out(stems)
    if split == "train":
        chosen = set(stems) - chosen
        visible = {name for name in files.names("images") if not name.startswith(".")}
        if lonely := sorted(visible - {images[stem] for stem in stems}):
            log.warning(
                "%d files in %s/images have no label map, or are no photographs, and are left out, "
                "such as %s",
                *(len(lonely), root, lonely[0]),
            )
    log.info(
        "%s has no lists: %d of its %d photographs are %r, chosen by their names",
        *(root, len(chosen), len(stems), split),
    )
    return [
        (f"images/{images[stem]}", f"labels/{labels[stem]}") for stem in stems if stem in chosen
    ]


def held_out(stems: Sequence[str]) -> set[str]:
    """Returns the names, of two or more, that are kept to evaluate: about a tenth, one at least."""
    # One at least, where chance has chosen none or all.
    count = min(max(1, sum(_draw(stem) < _HELD_OUT_SHARE for stem in stems)), len(stems) - 1)
    return set(sorted(stems, key=_draw)[:count])


def _by_stem(root: Root, folder: str, files: "_Listing", suffixes: set[str]) -> dict[str, str]:
    """Returns the pictures in a folder by what their names begin with."""
    found: dict[str, str] = {}
    for name in sorted(files.names(folder)):
        stem, suffix = os.path.splitext(name)
        if name.startswith(".") or suffix.lower() not in suffixes:
            continue
        if other := found.get(stem):
            raise UserError(
                f"{root}/{folder} has both {other} and {name}, which are named alike; remove or "
                "rename one."
            )
        found[stem] = name
    return found


def _draw(stem: str) -> float:
    """Returns a number from 0 to 1, always the same for a name."""
    return int.from_bytes(hashlib.sha256(os.fsencode(stem)).digest()[:8]) / 2**64


def _listed(root: Root, split: str, check_files: bool) -> Pairs:
    path = root / f"{split}{_LIST}"
    files = _Listing(root)
    pairs, missing = [], []
    for number, line in list_lines(path):
        pair = files.pair(line)
        if pair is None:
            raise UserError(
                f"{path} line {number} is not understood: {line!r}; a line is an image and its "
                "label, or one name."
            )
        missing += [(number, name) for name in pair if not files.has(name)]
        pairs.append(pair)
    if missing and check_files:
        number, name = missing[0]
        others = f" ({len(missing) - 1} other listed files are missing too)"
        raise UserError(
            f"{path} line {number} names {name}, which is not in {root}"
            f"{others if len(missing) > 1 else ''}; add the file or take the line off the list."
        )
    if not pairs:
        raise UserError(f"{path} lists no example; write one line for each image.")
    return pairs


def list_lines(path: Root) -> Iterator[tuple[int, str]]:
    """Yields number and text of a list's lines, but for empty ones and those starting with `#`.

    Raises:
      UserError: where the file cannot be read or is no text.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8; write it again.") from error
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, line


class _Listing:
    """Which files there are under a folder, each directory listed once."""

    def __init__(self, root: Root):
        self._root = root
        self._names: dict[str, frozenset[str]] = {}

    def names(self, directory: str) -> frozenset[str]:
        if directory not in self._names:
            try:
                listed = (self._root / directory).iterdir()
                self._names[directory] = frozenset(path.name for path in listed)
            except OSError:
                self._names[directory] = frozenset()
        return self._names[directory]

    def has(self, path: str) -> bool:
        directory, name = os.path.split(path)
        return name in self.names(directory)

    def pair(self, line: str) -> tuple[str, str] | None:
        """Returns image and label of a list's line, or None where the line has other parts."""
        if "\0" in line:  # No file has it in its name.
            return None
        gaps = [gap.span() for gap in re.finditer(r"\s+", line)]
        pairs = [(line[:start], line[end:]) for start, end in gaps]
        # Names may have spaces too: what exists decides.
        for image, label in pairs:
            if self.has(image) and self.has(label):
                return image, label
        named = self._named(line)
        if not pairs or self.has(named[0]):
            return named
        return pairs[0] if len(pairs) == 1 else None

    def _named(self, line: str) -> tuple[str, str]:
        image = line if line.startswith("images/") else f"images/{line}"
        stem, suffix = os.path.splitext(image)
        if suffix not in IMAGE_SUFFIXES:
            stem = image
            found = (stem + suffix for suffix in IMAGE_SUFFIXES if self.has(stem + suffix))
            image = next(found, stem + IMAGE_SUFFIXES[0])
        return image, f"labels/{stem.removeprefix('images/')}{_LABEL}"
