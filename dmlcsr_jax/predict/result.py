"""What is known of a parsed photograph, whatever ran the network: it needs no JAX."""

import functools
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dmlcsr_jax import visualization
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import outputs
from dmlcsr_jax.predict.faces import Face


class Result:
    """A parsed photograph; a Jupyter notebook shows it tinted.

    Attributes:
      image: uint8 `[H, W, 3]` RGB, the photograph in its EXIF orientation.
      label: uint8 `[H, W]`, the label of each pixel.
      instances: unsigned integers `[H, W]`, uint8 up to 255 faces: 0 where there is no face, 1
        where a part of the first one is, and so on.
      faces: a `ParsedFace` each, in the order of their numbers in `instances`; empty where the
        photograph was parsed complete because none was looked for or found.
      label_set: meaning of the labels: names, palette, whose left.
      name: what the photograph is called; "" for an array.
    """

    def __init__(
        self,
        image: np.ndarray,
        label: np.ndarray,
        owner: np.ndarray,
        faces: Sequence[Face],
        label_set: LabelSet,
        *,
        name: str = "",
        probabilities: Callable[[int], np.ndarray] | None = None,
    ):
        """Takes what a network has made of a photograph.

        Args:
          image: as the attribute.
          label: as the attribute.
          owner: unsigned integers `[H, W]`, the number of the face whose view labelled the pixel,
            from 1; the background's too.
          faces: the faces; empty where none was looked for or found.
          label_set: as the attribute.
          name: as the attribute.
          probabilities: called with a label, returns float32 `[H, W]`.
        """
        self.image = image
        self.label = label
        self.instances = np.where(label != 0, owner, 0).astype(owner.dtype)
        if not faces:
            self.instances[:] = 0
        self.faces = tuple(ParsedFace(self, number, face) for number, face in enumerate(faces))
        self.label_set = label_set
        self.name = name
        self._probabilities = probabilities

    @property
    def names(self) -> tuple[str, ...]:
        """The class names; a class's position is its label."""
        return self.label_set.classes

    @functools.cached_property
    def area(self) -> dict[str, int]:
        """Pixels a class."""
        return self._area(self.label)

    def mask(self, part: str, face: int | None = None) -> np.ndarray:
        """Returns bool `[H, W]`: where a part is.

        Args:
          part: one of `names`.
          face: of this face only, from 0; None: of all of the photograph.

        Raises:
          UserError: where there is no such part or face.
        """
        mask = self.label == self._label_of(part)
        if face is None:
            return mask
        if not 0 <= face < len(self.faces):
            raise UserError(f"there is no face {face!r}; this photograph has {len(self.faces)}.")
        return mask & (self.instances == face + 1)

    def probabilities(self, part: str) -> np.ndarray:
        """Returns float32 `[H, W]`, 0 to 1: how sure the network is that a pixel is of a part.

        The photograph is parsed once more for it. Where views of several faces show a pixel, it is
        that of the view which labelled the pixel; where none does, the pixel is background.

        Args:
          part: one of `names`.

        Raises:
          UserError: where there is no such part, or the network is no longer at hand.
        """
        label = self._label_of(part)
        if self._probabilities is None:
            raise UserError("this result was made without its network; parse the photograph again.")
        return self._probabilities(label)

    def overlay(self, alpha: float = 0.5) -> np.ndarray:
        """Returns uint8 `[H, W, 3]` RGB: the photograph with its parts tinted.

        Args:
          alpha: share of the tint, 0 to 1.
        """
        return visualization.overlay(self.image, self.label, self.label_set, alpha)

    def to_json(self) -> dict[str, Any]:
        """Returns what is known of faces, areas and class names, JSON-serialisable."""
        height, width = self.label.shape
        return {
            "name": self.name,
            "width": width,
            "height": height,
            "classes": list(self.names),
            "left_is": self.label_set.left_is,
            "pixels": self.area,
            "faces": [face.to_json() for face in self.faces],
        }

    def save(self, folder: str | os.PathLike) -> tuple[pathlib.Path, ...]:
        """Writes NAME.png, the label map; NAME_overlay.jpg; NAME.json, what `to_json` returns.

        Args:
          folder: made where it is missing. NAME is the photograph's without folder and suffix, or
            "photograph". Files of these names are replaced.

        Returns:
          The files' paths.

        Raises:
          UserError: where a file cannot be written.
        """
        folder = pathlib.Path(folder)
        name = pathlib.PurePath(self.name).stem or "photograph"
        text = json.dumps(self.to_json(), indent=2) + "\n"
        overlay = outputs.overlay_jpeg(self.image, self.label, self.label_set, alpha=0.5)
        files = {
            f"{name}.png": outputs.label_png(self.label, self.label_set, self.name),
            f"{name}_overlay.jpg": overlay,
            f"{name}.json": text.encode(),
        }
        for file, data in files.items():
            outputs.write(folder / file, data)
        return tuple(folder / file for file in files)

    def __repr__(self) -> str:
        """Says what it is of."""
        height, width = self.label.shape
        return f"<Result {self.name or 'photograph'}: {width}x{height}, {len(self.faces)} faces>"

    def _repr_png_(self) -> bytes:
        return visualization.png_bytes(self.overlay())

    def _label_of(self, part: str) -> int:
        if part not in self.names:
            raise UserError(f"there is no part {part!r}; there are {', '.join(self.names)}.")
        return self.names.index(part)

    def _area(self, label: np.ndarray) -> dict[str, int]:
        counts = np.bincount(label.ravel(), minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, counts, strict=False)}


class ParsedFace:
    """One face of a photograph.

    Attributes:
      box: as in `Face`.
      landmarks: as in `Face`.
      score: as in `Face`.
    """

    def __init__(self, result: Result, number: int, face: Face):
        """Takes the face's number, from 0, and what was found of it."""
        self._result = result
        self._number = number
        self.box = face.box
        self.landmarks = face.landmarks
        self.score = face.score

    @property
    def label(self) -> np.ndarray:
        """uint8 `[H, W]`: the photograph's label map where this face is, 0 elsewhere."""
        return np.where(self._result.instances == self._number + 1, self._result.label, 0)

    @functools.cached_property
    def area(self) -> dict[str, int]:
        """Pixels a class, without those of the background."""
        own = self._result.instances == self._number + 1
        return self._result._area(self._result.label[own])

    def to_json(self) -> dict[str, Any]:
        """Returns box, score, landmarks and area, JSON-serialisable."""
        landmarks = None if self.landmarks is None else self.landmarks.round(2).tolist()
        return {
            "box": [round(float(edge), 2) for edge in self.box],
            "score": self.score,
            "landmarks": landmarks,
            "pixels": self.area,
        }

    def __repr__(self) -> str:
        """Says where it is."""
        return f"<ParsedFace {self._number}: box {[round(float(e), 1) for e in self.box]}>"
