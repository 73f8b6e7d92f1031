"""What is known of a parsed photograph, whatever ran the network: it needs no JAX."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from dmlcsr_jax import visualization
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import alpha as matting
from dmlcsr_jax.predict import annotations, composite, masks, outputs, regions
from dmlcsr_jax.predict.faces import Face
from dmlcsr_jax.predict.mask_shape import Shape
from dmlcsr_jax.predict.views import View


class Result:
    """A parsed photograph; a Jupyter notebook shows it tinted, with a legend.

    Attributes:
      image: uint8 `[H, W, 3]` RGB, the photograph in its EXIF orientation.
      label: uint8 `[H, W]`, the label of each pixel.
      instances: unsigned integers `[H, W]`, uint8 up to 255 faces: 0 where there is no face, 1
        where a part of the first one is, and so on.
      faces: a `Face` each, in the order of their numbers in `instances`: those that were found by
        their size, the largest first, those that were given in their order; empty where none was
        looked for or found.
      label_set: meaning of the labels: names, palette, whose left.
      name: what the photograph is called; "" for an array.
      is_searched: whether a detector looked for faces.
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
        layers: Sequence[View] = (),
        is_searched: bool = False,
    ):
        self.image = image
        self.label = label
        self.instances = np.multiply(owner, label != 0) if faces else np.zeros_like(owner)
        self.faces = tuple(
            dataclasses.replace(face, result=self, number=number)
            for number, face in enumerate(faces)
        )
        self.label_set = label_set
        self.name = name
        self.is_searched = is_searched
        self._layers = layers
        self._owner = owner

    @property
    def names(self) -> tuple[str, ...]:
        """The class names; a class's position is its label."""
        return self.label_set.classes

    @property
    def plain_names(self) -> tuple[str, ...]:
        """The classes in plain words, in the same order."""
        return self.label_set.plain_names

    @functools.cached_property
    def area(self) -> dict[str, int]:
        """Pixels a class."""
        return self._named(self._counts.sum(axis=0))

    @property
    def main_face(self) -> Face | None:
        """The largest face; None where there is none."""
        return max(self.faces, key=lambda face: face.side, default=None)

    @property
    def quality(self) -> float | None:
        """The lowest quality of its faces, 0 to 1; None where there is none."""
        return min((face.quality for face in self.faces if face.quality is not None), default=None)

    def mask(
        self,
        part: str,
        face: int | None = None,
        *,
        grow: float | str = 0,
        clean: float = 0.0,
    ) -> np.ndarray:
        """Returns bool `[H, W]`: where a part is.

        Args:
          part: one of `names`; or a group of them such as "lips", see `masks.GROUPS`; or a region,
            as `region` takes it.
          face: of this face only, from 0; None: of all of the photograph.
          grow: how far its edge is moved, as in `mask_shape.Shape`.
          clean: share below which islands and holes are removed, as there.

        Raises:
          UserError: where there is no such part or face, or a value is impossible.
        """
        shape = Shape(grow=grow, clean=clean)
        return shape.applied(self._mask(part, face))

    def region(self, name: str, face: int | None = None) -> np.ndarray:
        """Returns bool `[H, W]`: a region of the skin, such as the forehead or a cheek.

        It follows the face however it lies, and is empty where its eyes or mouth are not seen.
        Where no face was looked for or found, the photograph is taken to show one.

        Args:
          name: one of `regions.REGIONS`; left and right are the subject's.
          face: of this face only, from 0; None: of all of the photograph.

        Raises:
          UserError: where there is no such region or face.
        """
        if not self.faces and face is None:
            return regions.region_of(name, self.label, self.label_set)
        chosen = self.faces if face is None else [self.faces[self._number(face) - 1]]
        found = np.zeros(self.label.shape, bool)
        for each in chosen:
            found |= regions.region_of(name, each.label, self.label_set, each.landmarks)
        return found

    def _mask(self, part: str, face: int | None) -> np.ndarray:
        if masks.is_region(part, self.label_set):
            return self.region(part, face)
        mask = masks.mask_of(self.label, masks.labels_of(part, self.label_set))
        if face is None:
            return mask
        return mask & (self.instances == self._number(face))

    def _number(self, face: int) -> int:
        if not 0 <= face < len(self.faces):
            raise UserError(f"there is no face {face!r}; this photograph has {len(self.faces)}.")
        return face + 1

    def cutout(
        self,
        part: str,
        face: int | None = None,
        *,
        grow: float | str = 0,
        feather: float | str = 0,
        clean: float = 0.0,
    ) -> np.ndarray:
        """Returns uint8 `[H, W, 4]` RGBA: the photograph, transparent outside a part.

        Args:
          part: as `mask` takes it.
          face: as `mask` takes it.
          grow: as `mask` takes it.
          feather: over how much it fades across the edge, as in `mask_shape.Shape`.
          clean: as `mask` takes it.

        Raises:
          UserError: where there is no such part or face, or a value is impossible.
        """
        shape = Shape(grow, feather, clean)
        return masks.cut_out(self.image, shape.feathered(self._mask(part, face)))

    def probabilities(self, part: str) -> np.ndarray:
        """Returns float32 `[H, W]`, 0 to 1: how sure the network is that a pixel is of a part.

        Where views overlap, it is what they come to, as the label is; where none shows a pixel, it
        is background.

        Args:
          part: as `mask` takes it, but no region: its edges are lines on the skin.

        Raises:
          UserError: where there is no such part.
        """
        total = np.zeros(self.label.shape, np.float32)
        for label in masks.labels_of(part, self.label_set):
            total += composite.probability_map(self._layers, total.shape, label)
        return np.minimum(total, 1, out=total)

    def alpha(
        self,
        part: str,
        face: int | None = None,
        *,
        grow: float | str = 0,
        feather: float | str = 0,
        clean: float = 0.0,
        image: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns float32 `[H, W]`, 0 to 1: how much of each pixel is of a part.

        It is the probability, refined along the photograph's edges.

        Args:
          part: as `probabilities` takes it.
          face: as `mask` takes it.
          grow: as `mask` takes it.
          feather: over how much it fades across the edge, beyond its own softness.
          clean: as `mask` takes it.
          image: uint8 `[H, W, 3]` RGB, the photograph where it was not kept; None: `self.image`.

        Raises:
          UserError: where there is no such part or face, a value is impossible, or the package
            pymatting is missing.
        """
        shape = Shape(grow, feather, clean)
        probability = self.probabilities(part)
        if self.faces:
            # Of faces that were not chosen nothing is labelled.
            labelled = np.unique(self.instances) if face is None else [self._number(face)]
            probability[~np.isin(self._owner, labelled)] = 0
        elif face is not None:
            self._number(face)
        image = self.image if image is None else image
        return shape.softened(matting.refined(image, probability))

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
            "plain_names": list(self.plain_names),
            "left_is": self.label_set.left_is,
            "pixels": self.area,
            "faces": [face.to_json() for face in self.faces],
        }

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Returns COCO's annotations, one a class, as run lengths; a category's id is its label.

        Args:
          image_id: what the photograph is called there.

        Raises:
          UserError: where the package pycocotools is missing.
        """
        return annotations.coco_annotations(self.label, self.label_set, image_id)

    def to_supervision(self) -> Any:
        """Returns `supervision.Detections`, one a class of each face, and of what has no face.

        `class_id` is the label, `tracker_id` the number in `instances`, and `data["class_name"]`
        the name.

        Raises:
          UserError: where the package supervision is missing.
        """
        return annotations.detections(self.label, self.instances, self.label_set)

    def save(self, folder: str | os.PathLike, name: str | None = None) -> tuple[pathlib.Path, ...]:
        """Writes NAME.png, the label map; NAME_overlay.jpg; NAME.json, what `to_json` returns.

        Args:
          folder: made where it is missing.
          name: NAME, whose files are replaced; None: the photograph's without folder and suffix, or
            "photograph". Where the folder has that name's files of another photograph, or of one
            without a name, a number is added: NAME_2.

        Returns:
          The files' paths.

        Raises:
          UserError: where a file cannot be written, or no JPEG is as large.
        """
        folder = pathlib.Path(folder)
        name = name or outputs.free_name(folder, self.name)
        text = json.dumps(self.to_json(), indent=2) + "\n"
        overlay = outputs.overlay_jpeg(self.image, self.label, self.label_set, 0.5, self.name)
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
        return visualization.png_bytes(
            visualization.with_legend(self.overlay(), self.label, self.label_set)
        )

    def plot(self, axes: Any = None, *, alpha: float = 0.5) -> Any:
        """Draws the tinted photograph and a legend of its classes by Matplotlib.

        Args:
          axes: `matplotlib.axes.Axes` to draw in; None: those of a new figure of pyplot.
          alpha: share of the tint, 0 to 1.

        Returns:
          The axes.
        """
        overlay = self.overlay(alpha)
        return visualization.plot(overlay, self.label, self.label_set, axes, self.name)

    def area_of(self, face: int) -> dict[str, int]:
        """Returns the pixels a class of one face, from 0."""
        return self._named(self._counts[face + 1])

    def _named(self, counts: np.ndarray) -> dict[str, int]:
        return {name: int(count) for name, count in zip(self.names, counts, strict=False)}

    @functools.cached_property
    def _counts(self) -> np.ndarray:
        """Integers `[F + 1, 256]`: pixels a face, 0 for none, and label."""
        counts = np.zeros((len(self.faces) + 1) * 256, int)
        # A few rows at a time: bincount takes eight bytes a pixel.
        num_rows = 1 + max(2**20, counts.size) // self.label.shape[1]
        for start in range(0, len(self.label), num_rows):
            rows = slice(start, start + num_rows)
            keys = self.instances[rows].astype(np.intp) * 256 + self.label[rows]
            counts += np.bincount(keys.ravel(), minlength=counts.size)
        return counts.reshape(-1, 256)
