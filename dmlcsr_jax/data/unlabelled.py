"""Photographs without labels, from which a network learns by a teacher's predictions alone."""

import os
import pathlib

import numpy as np

from dmlcsr_jax.data.decode import decode_image, read_bytes
from dmlcsr_jax.data.folder_pairs import IMAGE_SUFFIXES, list_lines
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError

_SUFFIXES = tuple(dict.fromkeys(suffix.lower() for suffix in IMAGE_SUFFIXES))


class UnlabelledSource:
    """A folder's `images/`, every pixel of the ignore label; see `sources` for what a source is.

    Args:
      root: the folder.
      split: where there is a list `{split}_list.txt`, only the photographs that it names, with
        their suffixes or without.
      label_set: says which label is ignored.

    Raises:
      UserError: on creation, where the folder has no photographs or a listed one is missing; on
        reading, where a photograph is damaged.
    """

    def __init__(self, root: str | os.PathLike, split: str, label_set: LabelSet):
        """Lists the photographs; reads none of them."""
        root = pathlib.Path(root)
        folder, listing = root / "images", root / f"{split}_list.txt"
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; put the photographs there.")
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        if listing.is_file():
            named = {path.stem: path for path in files} | {path.name: path for path in files}
            names = [line.removeprefix("images/") for _, line in list_lines(listing)]
            if missing := [name for name in names if name not in named]:
                raise UserError(
                    f"{listing} names {missing[0]}, which is not in {folder}; take it off the list."
                )
            files = [named[name] for name in names]
        if not files:
            suffixes = ", ".join(_SUFFIXES)
            raise UserError(f"there are no photographs ({suffixes}) to read in {folder}; add some.")
        self._files = files
        self._ignore_label = label_set.ignore_label

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict:
        """Reads photograph `index`."""
        file = self._files[index]
        image = decode_image(read_bytes(file), str(file))
        label = np.full(image.shape[:2], self._ignore_label, np.uint8)
        return {"image": image, "label": label, "name": file.stem}
