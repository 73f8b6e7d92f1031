"""Masks and cutouts as a file a part of each photograph, or a file a face."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from dmlcsr_jax import visualization
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import masks
from dmlcsr_jax.predict.alpha import require_matting
from dmlcsr_jax.predict.arguments import Options
from dmlcsr_jax.predict.mask_shape import Shape
from dmlcsr_jax.predict.outputs import remove, write
from dmlcsr_jax.predict.photographs import Picture
from dmlcsr_jax.predict.result import Result

# White of a cutout's transparency, and its dtype.
_CUTOUT = (255, np.uint8)


class MaskFiles:
    """The masks and cutouts that the command line asks for.

    `masks/PART/NAME.png` is white on black, `cutouts/PART/NAME.png` the photograph, transparent
    outside the part; a file a face lies in `face_0/` and so on there, 0 for the result's first.

    Attributes:
      masks: parts of which there are masks.
      cutouts: parts of which there are cutouts.
      needs_image: whether writing needs the photograph.
      settings: what decides what is written, JSON-serialisable; empty where nothing is.
    """

    def __init__(self, options: Options, label_set: LabelSet):
        """Checks the parts.

        Args:
          options: of the command line.
          label_set: meaning of the labels.

        Raises:
          UserError: where an option names a part that is not there, a value is impossible, or a
            package is missing.
        """
        self.masks = _named("--masks", options.masks, label_set)
        self.cutouts = _named("--cutout", options.cutout, label_set)
        self._each_face = options.each_face
        self._shape = Shape(options.grow, options.feather, options.clean)
        self._bits = options.soft_bits if options.soft else None
        self._white = (65535, np.uint16) if self._bits == 16 else _CUTOUT
        if self._bits:
            require_matting()
            for part in (*self.masks, *self.cutouts):
                if masks.is_region(part, label_set):
                    raise UserError(f"--soft has no edge to refine of the region {part}; leave it.")
        self.needs_image = bool(self.cutouts or self._bits)
        self.settings: dict[str, Any] = {}
        if self.masks or self.cutouts:
            self.settings = {
                "masks": self.masks,
                "cutouts": self.cutouts,
                "each_face": self._each_face,
                "shape": dataclasses.asdict(self._shape),
                "soft_bits": self._bits,
            }

    def require_photograph(self, video: Picture) -> None:
        """Raises a `UserError` where masks are asked for, which videos do not have."""
        if self.settings:
            raise UserError(
                f"{video.name} is a video; --masks and --cutout are of photographs alone."
            )

    def paths(self, out: epath.Path, stem: str) -> list[epath.Path]:
        """Returns the files of a photograph whose names do not depend on its number of faces."""
        return [] if self._each_face else [path for _, path, _ in self._files(out, stem, None)]

    def write(self, out: epath.Path, stem: str, image: np.ndarray, result: Result) -> None:
        """Writes a photograph's files, one after the other, and removes those of a face too many.

        Args:
          out: folder of the outputs.
          stem: what the names of its files begin with.
          image: uint8 `[H, W, 3]` RGB; any where it is not needed.
          result: its labels.

        Raises:
          OutputError: as `outputs.write`.
        """
        faces = range(len(result.faces)) if self._each_face else (None,)
        for face in faces:
            by_part = itertools.groupby(self._files(out, stem, face), key=lambda file: file[0])
            for part, files in by_part:
                alpha = self._alpha(result, image, part, face)
                for _, path, is_cutout in files:
                    most, kind = _CUTOUT if is_cutout else self._white
                    mask = np.rint(most * alpha).astype(kind) if self._bits else alpha
                    pixels = masks.cut_out(image, mask) if is_cutout else mask
                    write(path, visualization.png_bytes(pixels))
        if self._each_face:
            self._remove_from(len(faces), out, stem)

    def _alpha(self, result: Result, image: np.ndarray, part: str, face: int | None) -> np.ndarray:
        """Returns `[H, W]`: of soft masks float32, 0 to 1, else uint8, 0 to 255."""
        if self._bits:
            return result.alpha(part, face, image=image, **dataclasses.asdict(self._shape))
        return self._shape.feathered(result.mask(part, face))

    def _remove_from(self, first: int, out: epath.Path, stem: str) -> None:
        """Removes the files of faces that a photograph had when it was another."""
        for face in itertools.count(first):
            old = [path for _, path, _ in self._files(out, stem, face) if path.exists()]
            if not old:
                return
            for path in old:
                remove(path)

    def _files(
        self, out: epath.Path, stem: str, face: int | None
    ) -> Iterator[tuple[str, epath.Path, bool]]:
        """Yields each file's part, its path, and whether it is a cutout, part after part."""
        of_face = () if face is None else (f"face_{face}",)
        for part in sorted({*self.masks, *self.cutouts}):
            for folder, parts in (("masks", self.masks), ("cutouts", self.cutouts)):
                if part in parts:
                    place = out.joinpath(folder, *of_face, part, f"{stem}.png")
                    yield part, place, folder == "cutouts"


def _named(option: str, names: tuple[str, ...], label_set: LabelSet) -> tuple[str, ...]:
    try:
        parts = masks.parts_of(names, label_set)
    except UserError as error:
        raise UserError(f"{option}: {error}") from error
    for part in parts:
        if "/" in part or "\\" in part or part in ("", ".", ".."):
            raise UserError(f"{option}: a folder cannot be called {part!r}; rename the class.")
    return parts
