"""Procedurally drawn faces with Helen's eleven classes, for tests and for training without data.

A face is a handful of closed curves in a face's own coordinates (x to the image's right, y down,
the face about 1.5 wide and 2 high, z towards the viewer), turned by yaw, pitch and roll, and
painted back to front on an image and on a label map together.
"""

import cv2
import numpy as np

from dmlcsr_jax.data.synthetic.canvas import SUPERSAMPLING, Canvas, random_look
from dmlcsr_jax.data.synthetic.parts import (
    paint_behind_face,
    paint_face,
    paint_front_hair,
    paint_occluders,
)


def draw_face(index: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws a face; the same arguments give the same pixels.

    Args:
      index: which face, 0 or more.
      size: side of the square image and label, pixels.
      seed: which series of faces, 0 or more.

    Returns:
      image uint8 `[size, size, 3]` RGB and label uint8 `[size, size]` of Helen's classes. Neck,
      ears, clothes, glasses and whatever covers the face are background. "Left" is the image's.
    """
    rng = np.random.default_rng((seed, index))
    look = random_look(rng)
    canvas = Canvas(size, look, _background(rng, size * SUPERSAMPLING))
    paint_behind_face(canvas, look, rng)
    paint_face(canvas, look, rng)
    paint_front_hair(canvas, look, rng)
    paint_occluders(canvas, look, rng)
    image = _develop(canvas.image, size, rng)
    label = np.ascontiguousarray(canvas.label[1::SUPERSAMPLING, 1::SUPERSAMPLING])
    return image, label


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Returns uint8 `[side, side, 3]`: a cloudy wall with some blocks and lines on it."""
    small = 48
    image = rng.uniform(20, 235, 3) + rng.uniform(5, 40) * _smooth_noise(rng, 4, small, 3)
    image = image + rng.uniform(2, 22) * _smooth_noise(rng, 16, small, 1)
    image = np.clip(image, 0, 255).astype(np.uint8)
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(0, 7)):
        x, y, width, height = (rng.random(4) * (side, side, side / 2, side / 2)).astype(int)
        colour = tuple(rng.uniform(0, 255, 3))
        if rng.random() < 0.5:
            cv2.rectangle(image, (x, y), (x + width, y + height), colour, -1)
        else:
            end = (int(x + width - side / 4), int(y + height - side / 4))
            cv2.line(image, (x, y), end, colour, int(rng.integers(2, 1 + side // 12)))
    return image


def _develop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns uint8 `[size, size, 3]`: the painted image under light, seen by a camera."""
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope_x, slope_y = rng.uniform(-0.35, 0.35, 2).astype(np.float32)
    light = 1 + slope_x * ramp[None, :] + slope_y * ramp[:, None]
    light = light[..., None] + 0.08 * _smooth_noise(rng, 5, size, 1)
    tint = rng.normal(1, 0.06, 3).astype(np.float32) * np.float32(rng.uniform(0.7, 1.15))
    image *= light * tint
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9) * size / 96)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += np.float32(rng.uniform(0.5, 6)) * noise
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _smooth_noise(rng: np.random.Generator, cells: int, side: int, channels: int) -> np.ndarray:
    """Returns float32 `[side, side, channels]`, a smooth random field of about unit variance."""
    coarse = rng.standard_normal((cells, cells, channels)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, -1)
