"""Photographs and label maps paired by their file names, as several sets lay them out."""

import os
import pathlib
from typing import NamedTuple

from dmlcsr_jax.data.builders.records import LabelFile, Record


class Files(NamedTuple):
    """The files `{folder}/{name}{suffix}`, one for each name."""

    folder: pathlib.Path
    suffix: str

    def path(self, name: str) -> pathlib.Path:
        """Returns the file of a name."""
        return self.folder / f"{name}{self.suffix}"

    def names(self) -> set[str]:
        """Returns the names of the files that exist; none where there is no folder."""
        if not self.folder.is_dir():
            return set()
        files = os.listdir(self.folder)
        return {file.removesuffix(self.suffix) for file in files if file.endswith(self.suffix)}


def find_pairs(
    images: Files, labels: Files, landmarks: Files | None = None
) -> tuple[list[Record], list[str]]:
    """Pairs the photographs with their label maps, and with their landmarks where they have some.

    Args:
      images: the photographs.
      labels: the label maps; where they lie among the photographs, their suffix tells them apart.
      landmarks: the landmarks, or None.

    Returns:
      The pairs in the order of their names, and a phrase for each file without its partner.
    """
    found = images.names()
    if images.folder == labels.folder:
        others = [labels.suffix] + ([landmarks.suffix] if landmarks else [])
        found = {name for name in found if not images.path(name).name.endswith(tuple(others))}
    labelled = labels.names()
    marked = landmarks.names() if landmarks else set()
    records = [
        Record(
            name,
            images.path(name),
            LabelFile(labels.path(name)),
            landmarks.path(name) if name in marked else None,
        )
        for name in sorted(found & labelled)
    ]
    lonely = [(images.path(name), labels.path(name)) for name in sorted(found - labelled)]
    lonely += [(labels.path(name), images.path(name)) for name in sorted(labelled - found)]
    return records, [f"{partner} does not exist, though {path} does" for path, partner in lonely]
