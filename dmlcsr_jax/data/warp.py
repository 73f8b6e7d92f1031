"""One affine warp on the host: augmentation, evaluation, crops, and the way back.

A matrix is float64 `[2, 3]` and maps source pixel coordinates `(x, y, 1)` to input pixel
coordinates, pixel centres at whole numbers as in OpenCV. Scaling is aligned at the image's edges,
not at the pixel centres: pixel `x` covers `[x - 0.5, x + 0.5]`.

A crop is a box of the photograph and the photograph is a box too: `box_matrix` makes both matrices.
Photographs are never cut, so that turned views show what there is beside a crop, and predictions
are compared at the photographs' size; what a crop does not show is background.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from dmlcsr_jax.data.colour import jitter
from dmlcsr_jax.data.degradation import Degradation, degrade
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.occlusion import draw_occlusion
from dmlcsr_jax.data.partial_labels import PartialLabels
from dmlcsr_jax.data.scenes import draw_scene
from dmlcsr_jax.errors import UserError


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


def photograph_box(hw: tuple[int, int]) -> np.ndarray:
    """Returns float64 `[4]`: the box of a photograph of height and width `hw`, see `box_matrix`."""
    return np.array([-0.5, -0.5, hw[1] - 0.5, hw[0] - 0.5])


def shown_box(example: Mapping[str, Any], crop_margin: float | None) -> np.ndarray:
    """Returns the box of what is shown of an example: its face, or the photograph.

    Args:
      example: "image" uint8 `[H, W, 3]`; "name"; "box" where there is a `crop_margin`, as
        `prepared.PreparedSource` gives it.
      crop_margin: None where the photograph is shown.

    Returns:
      float64 `[4]`, for `box_matrix`.

    Raises:
      UserError: where a crop is asked for and there is no box.
    """
    if crop_margin is None:
        return photograph_box(example["image"].shape[:2])
    if "box" not in example:
        raise UserError(
            f"{example['name']} has no face box to crop by; prepare the set by "
            "`python -m dmlcsr_jax.data.prepare`, or leave config.data.crop_margin unset."
        )
    return example["box"]


def box_matrix(
    box: np.ndarray,
    size: int,
    *,
    margin: float = 0.0,
    scale: float = 1.0,
    angle: float = 0.0,
    mirror: bool = False,
) -> np.ndarray:
    """Returns the matrix that shows a box and its margin, centred, aspect kept, in a square input.

    Args:
      box: float `[4]`, left, top, right and bottom edge in pixels of the image, pixel centres at
        whole numbers: `(-0.5, -0.5, w - 0.5, h - 0.5)` is the photograph itself.
      size: side of the input, pixels.
      margin: what is shown beyond the box on each side, as a share of the box's longer side, 0 or
        more. The longer side with its margins fills the input.
      scale: factor on top of that, about the box's centre.
      angle: rotation about the box's centre, radians.
      mirror: whether the view is mirrored left to right; the determinant is negative then.

    Returns:
      float64 `[2, 3]`, image pixel to input pixel.

    Raises:
      UserError: where the box is empty.
    """
    box = np.asarray(box, np.float64)
    longer = (box[2:] - box[:2]).max()
    if not longer > 0:
        raise UserError(f"the face box {box.tolist()} is empty; its right and bottom come last.")
    scale = scale * size / (longer * (1 + 2 * margin))
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    flip = -1 if mirror else 1
    linear = np.array([[flip * cos, -flip * sin], [sin, cos]])
    centre = (box[:2] + box[2:]) / 2
    offset = (size - 1) / 2 - linear @ centre
    return np.concatenate([linear, offset[:, None]], axis=1)


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


def change_source(
    matrix: np.ndarray, old_hw: tuple[int, int], new_hw: tuple[int, int]
) -> np.ndarray:
    """Returns the same view as a matrix for the same picture at another resolution.

    Args:
      matrix: float64 `[2, 3]` for a source of `old_hw`.
      old_hw: height and width that `matrix` is for, pixels.
      new_hw: height and width of the other resolution, pixels.

    Returns:
      float64 `[2, 3]` that puts every point of the picture where `matrix` puts it.
    """
    scale = np.array([old_hw[1] / new_hw[1], old_hw[0] / new_hw[0]])
    # Old pixel coordinate = (new + 0.5) * scale - 0.5.
    offset = matrix[:, :2] @ (0.5 * scale - 0.5) + matrix[:, 2]
    return np.concatenate([matrix[:, :2] * scale, offset[:, None]], axis=1)


def is_mirrored(matrix: np.ndarray) -> bool:
    """Returns whether the view that a matrix gives is mirrored."""
    return bool(matrix[0, 0] * matrix[1, 1] < matrix[0, 1] * matrix[1, 0])


def warp_image(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Returns uint8 `[size, size, 3]`: the image through `matrix`, bilinear, black outside.

    Args:
      image: uint8 `[H, W, 3]`.
      matrix: float64 `[2, 3]`, image pixel to input pixel.
      size: side of the input, pixels.
    """
    # OpenCV warps four channels in half the time of three, to the same pixels; only for an image
    # much larger than the input does adding the fourth take longer.
    with_fourth = image.shape[0] * image.shape[1] < 8 * size * size
    if with_fourth:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    warped = cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB) if with_fourth else warped


def warp_label(label: np.ndarray, matrix: np.ndarray, size: int, ignore_label: int) -> np.ndarray:
    """Returns uint8 `[size, size]`: the label through `matrix`, nearest, `ignore_label` outside.

    Args:
      label: uint8 `[h, w]`.
      matrix: float64 `[2, 3]`, label pixel to input pixel.
      size: side of the input, pixels.
      ignore_label: value of the pixels that the label map does not reach.
    """
    return cv2.warpAffine(
        label,
        matrix,
        (size, size),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=ignore_label,
    )


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
        change, of a scene where there may be one, and of `degradation.degrade`.
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
