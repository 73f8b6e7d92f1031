"""Random views of training examples: image and label by one warp, then the image's changes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from dmlcsr_jax.data.colour import jitter
from dmlcsr_jax.data.degradation import Degradation, degrade
from dmlcsr_jax.data.geometry import box_matrix, change_source, is_mirrored, shown_box
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.occlusion import draw_occlusion
from dmlcsr_jax.data.partial_labels import PartialLabels
from dmlcsr_jax.data.scenes import draw_scene
from dmlcsr_jax.data.warp import warp_image, warp_label


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of the random warp; the defaults are the paper's (method: optimisation and data).

    Attributes:
      scale_std: standard deviation of the scale factor, whose mean is 1.
      scale_min: least scale factor; smaller draws are clipped to it.
      scale_max: greatest scale factor.
      rotation_std: standard deviation of the rotation, degrees, about 0.
      rotation_max: greatest rotation either way, degrees; larger draws are clipped to it.
      rotation_prob: probability that an example is rotated.
      mirror_prob: probability that an example is mirrored.
      shift_std: standard deviation of the shift of what is shown, across and down, as a share of
        its longer side without margin: boxes as a detector finds them are not where labels put
        them. 0: not shifted, and no number is drawn.
      brightness: greatest change of the brightness either way, as a share; see `colour.jitter`.
      contrast: of the contrast.
      saturation: of the saturation.
      scene_prob: probability that what lies outside the photograph is a drawn scene, labelled
        background, and not black and ignored; see `scenes`. 0: never, and no number is drawn.
      occlusion_prob: probability that drawn hands and things hide some of the view, labelled
        background; see `occlusion`. 0: never, and no number is drawn.
      degradation: how much worse than the photograph a view may be.
    """

    scale_std: float = 0.25
    scale_min: float = 0.75
    scale_max: float = 1.25
    rotation_std: float = 30.0
    rotation_max: float = 60.0
    rotation_prob: float = 0.6
    mirror_prob: float = 0.5
    shift_std: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    scene_prob: float = 0.0
    occlusion_prob: float = 0.0
    degradation: Degradation = dataclasses.field(default_factory=Degradation)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Augmentation":
        """Returns the ranges that a config's `augmentation` has."""
        return cls(**{**fields, "degradation": Degradation(**fields["degradation"])})


def random_matrix(
    box: np.ndarray,
    size: int,
    rng: np.random.Generator,
    augmentation: Augmentation,
    *,
    margin: float = 0.0,
) -> np.ndarray:
    """Returns the matrix of a random view of a box and its margin.

    The view of `box_matrix` is, about its centre, scaled by N(1, scale_std) clipped to
    [scale_min, scale_max]; with probability rotation_prob rotated by N(0, rotation_std) degrees
    clipped to +-rotation_max; with probability mirror_prob mirrored left to right.

    Args:
      box: as for `box_matrix`.
      size: side of the input, pixels.
      rng: source of four draws, whatever the augmentation's values.
      augmentation: the ranges.
      margin: as for `box_matrix`.

    Returns:
      float64 `[2, 3]`; the determinant is negative exactly where the view is mirrored.
    """
    scale = 1 + augmentation.scale_std * rng.standard_normal()
    degrees = augmentation.rotation_std * rng.standard_normal()
    rotated = rng.random() < augmentation.rotation_prob
    mirror = rng.random() < augmentation.mirror_prob
    limit = augmentation.rotation_max
    return box_matrix(
        box,
        size,
        margin=margin,
        scale=min(max(scale, augmentation.scale_min), augmentation.scale_max),
        angle=math.radians(min(max(degrees, -limit), limit)) if rotated else 0.0,
        mirror=mirror,
    )


def _shifted(box: np.ndarray, rng: np.random.Generator, std: float) -> np.ndarray:
    """Returns the box moved at random by two draws; see `Augmentation.shift_std`."""
    longer = (box[2:] - box[:2]).max()
    return box + np.tile(std * longer * rng.standard_normal(2), 2)


def augment(
    example: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    size: int,
    augmentation: Augmentation,
    label_set: LabelSet | PartialLabels,
    crop_margin: float | None = None,
    with_weak_view: bool = False,
) -> dict[str, np.ndarray]:
    """Returns a random view of an example, image and label by the same warp.

    Where the view is mirrored, the label set's left and right labels are exchanged, so that "left"
    keeps the meaning that the set gives it.

    Args:
      example: "image" uint8 `[H, W, 3]` RGB; "label" uint8 `[h, w]`, of the same aspect but
        perhaps another resolution; "name"; "box" where crops are shown.
      rng: source of the draws of a shift, of `random_matrix`, of `colour.jitter` where colours
        change, of a scene and of what hides the view where there may be such, and of
        `degradation.degrade`.
      size: side of the input, pixels.
      augmentation: ranges of the random view.
      label_set: names the pairs to exchange and the ignore label; with groups where labels are
        partial.
      crop_margin: margin of the face box that is shown, as for `box_matrix`; None for the
        photograph.
      with_weak_view: whether the view is given as it was before colours changed and it was
        degraded too.

    Returns:
      "image" uint8 `[size, size, 3]` RGB, black outside or a scene; "label" uint8 `[size, size]`,
      the ignore label outside, or with a scene background; and "weak_image", as "image", where it
      is asked for.
    """
    image, label = example["image"], example["label"]
    box = shown_box(example, crop_margin)
    if augmentation.shift_std:
        box = _shifted(box, rng, augmentation.shift_std)
    matrix = random_matrix(box, size, rng, augmentation, margin=crop_margin or 0.0)
    label_matrix = change_source(matrix, image.shape[:2], label.shape)
    whole = np.zeros(label.shape, np.uint8)
    label = warp_label(label, label_matrix, size, label_set.ignore_label)
    if is_mirrored(matrix):
        label = cv2.LUT(label, label_set.mirror_table())
    changes = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    weak = warp_image(image, matrix, size)
    image = jitter(weak, rng, *changes)
    drawn, over = np.zeros_like(image), np.zeros((size, size), bool)
    if augmentation.scene_prob and rng.random() < augmentation.scene_prob:
        over = warp_label(whole, label_matrix, size, 1).astype(bool)
        drawn = draw_scene(rng, size)
    if augmentation.occlusion_prob and rng.random() < augmentation.occlusion_prob:
        things, hidden = draw_occlusion(rng, image)
        drawn = np.where(hidden[..., None], things, drawn)
        over |= hidden
    if over.any():
        image = np.where(over[..., None], drawn, image)
        label[over] = label_set.background
    view = {"image": degrade(image, rng, augmentation.degradation), "label": label}
    if with_weak_view:
        view["weak_image"] = np.where(over[..., None], drawn, weak)
    return view
