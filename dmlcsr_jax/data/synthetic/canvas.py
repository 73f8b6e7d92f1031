"""One face's look, and the image and label map that it is painted on together."""

import dataclasses

import cv2
import numpy as np

from dmlcsr_jax.data.label_sets import HELEN

LABELS = {name: label for label, name in enumerate(HELEN.classes)}
# Painting at three times the size: averaging 3x3 gives soft edges in the image, taking the middle
# one of them gives the label at the pixel's centre.
SUPERSAMPLING = 3
_SUBPIXEL_BITS = 4


@dataclasses.dataclass(frozen=True)
class Look:
    """What one face looks like: pose in radians and shares of the image, colours RGB 0 to 255."""

    centre: tuple[float, float]
    scale: float
    rotation: np.ndarray
    roll: float
    yaw: float
    face_width: float
    jaw: float
    skin: np.ndarray
    hair: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    cloth: np.ndarray


def random_look(rng: np.random.Generator) -> Look:
    """Draws pose, shape and colours of one face."""
    yaw, pitch = np.clip(rng.normal(0, (0.3, 0.15)), (-0.6, -0.3), (0.6, 0.3))
    roll = np.clip(rng.normal(0, 0.2), -0.6, 0.6)
    turn_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    turn_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
    )
    turn_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0]])
    darkness = rng.random()
    skin = (1 - darkness) * np.array([246, 208, 182]) + darkness * np.array([92, 58, 42])
    skin = skin + rng.normal(0, 8, 3)
    natural = np.array([[28, 22, 20], [62, 40, 28], [110, 72, 40], [196, 158, 96], [150, 148, 146]])
    hair = natural[rng.integers(len(natural))] + rng.normal(0, 12, 3)
    if rng.random() < 0.1:
        hair = rng.uniform(20, 235, 3)
    return Look(
        centre=tuple(0.5 + rng.uniform(-0.07, 0.07, 2)),
        scale=rng.uniform(0.28, 0.4),
        rotation=turn_z @ turn_x @ turn_y,
        roll=roll,
        yaw=yaw,
        face_width=rng.uniform(0.68, 0.84),
        jaw=rng.uniform(0.1, 0.38),
        skin=np.clip(skin, 25, 250),
        hair=np.clip(hair, 8, 245),
        lips=np.clip(0.55 * skin + 0.45 * rng.uniform((150, 20, 40), (215, 90, 100)), 20, 250),
        iris=rng.uniform((20, 30, 20), (110, 120, 150)),
        cloth=rng.uniform(15, 240, 3),
    )


class Canvas:
    """An image and a label map under one brush, both `SUPERSAMPLING` times the final size."""

    def __init__(self, size: int, look: Look, background: np.ndarray):
        """Starts from a background, uint8 `[S, S, 3]` with `S` the supersampled size."""
        self.image = background
        self.label = np.zeros(background.shape[:2], np.uint8)
        self._side = size * SUPERSAMPLING
        self._look = look

    def project(self, points: np.ndarray, lift: float | None = 0.0) -> np.ndarray:
        """Returns `[N, 2]` canvas pixels of `[N, 2]` points on the head.

        `lift` is added to the depth of the head's surface. None is for outlines: seen from any
        side a head is about as wide, so that they only roll, and the chin goes where it points.
        """
        look = self._look
        x, y = points.T
        if lift is None:
            x = x + 0.25 * np.sin(look.yaw) * np.maximum(y, 0) ** 2 * (y < 1.1)
            cos, sin = np.cos(look.roll), np.sin(look.roll)
            turned = np.column_stack([cos * x - sin * y, sin * x + cos * y])
        else:
            inside = 1 - (x / 0.85) ** 2 - (y / 1.15) ** 2
            depth = 0.7 * np.sqrt(np.maximum(inside, 0)) + lift
            turned = np.column_stack([x, y, depth]) @ look.rotation.T
        return (np.array(look.centre) + turned * look.scale) * self._side

    def fill(self, points: np.ndarray, colour, label: str | None = None, lift: float | None = 0.0):
        """Paints a closed curve of points on the head; without a label the labels stay."""
        self.fill_pixels(self.project(points, lift), colour, label)

    def fill_pixels(self, pixels: np.ndarray, colour, label: str | None = None):
        """Paints a closed curve of canvas pixels."""
        fixed = np.rint(pixels * 2**_SUBPIXEL_BITS).astype(np.int32)
        colour = tuple(float(c) for c in np.clip(colour, 0, 255))
        cv2.fillPoly(self.image, [fixed], colour, cv2.LINE_8, _SUBPIXEL_BITS)
        if label is not None:
            cv2.fillPoly(self.label, [fixed], LABELS[label], cv2.LINE_8, _SUBPIXEL_BITS)

    def stroke(self, points: np.ndarray, colour, width: float, label: str | None = None):
        """Paints an open line of points on the head, `width` in the face's units."""
        fixed = np.rint(self.project(points) * 2**_SUBPIXEL_BITS).astype(np.int32)
        colour = tuple(float(c) for c in np.clip(colour, 0, 255))
        thickness = max(1, round(width * self._look.scale * self._side))
        arguments = (thickness, cv2.LINE_8, _SUBPIXEL_BITS)
        cv2.polylines(self.image, [fixed], False, colour, *arguments)
        if label is not None:
            cv2.polylines(self.label, [fixed], False, LABELS[label], *arguments)
