"""Drawn faces in one photograph, each turned its own way, and where their parts are."""

import dataclasses
import math

import cv2
import numpy as np
from colour_network import COLOURS

from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.data.synthetic import draw_face
from dmlcsr_jax.predict.faces import Face

LABELS = {name: label for label, name in enumerate(HELEN.classes)}
# Image-left first: the drawn faces' "left" is the image's, the subject's right.
EYES = (LABELS["left_eye"], LABELS["right_eye"])


@dataclasses.dataclass(frozen=True)
class Mosaic:
    """`image` uint8 `[H, W, 3]` as drawn, `label` and `number` (from 1) uint8 `[H, W]`, `faces`."""

    image: np.ndarray
    label: np.ndarray
    number: np.ndarray
    faces: list[Face]

    @property
    def coloured(self):
        """The picture that the colour network labels as `label`."""
        return COLOURS[self.label]


def draw(turns, *, tile=160, columns=3, first=0):
    """Draws a face a turn, degrees clockwise, in tiles; the boxes are those of the turned face."""
    rows = -(-len(turns) // columns)
    shape = (rows * tile, columns * tile)
    image, label = np.full((*shape, 3), 127, np.uint8), np.zeros(shape, np.uint8)
    number, faces = np.zeros(shape, np.uint8), []
    for count, degrees in enumerate(turns):
        drawn, drawn_label = draw_face(first + count, tile)
        middle = (tile - 1) / 2
        # OpenCV counts anticlockwise.
        matrix = cv2.getRotationMatrix2D((middle, middle), -degrees, 0.8)
        turned = cv2.warpAffine(drawn, matrix, (tile, tile), borderValue=(127, 127, 127))
        turned_label = cv2.warpAffine(drawn_label, matrix, (tile, tile), flags=cv2.INTER_NEAREST)
        y, x = count // columns * tile, count % columns * tile
        place = (slice(y, y + tile), slice(x, x + tile))
        image[place], label[place] = turned, turned_label
        number[place] = count + 1
        faces.append(_face(drawn_label, matrix, (x, y)))
    return Mosaic(image, label, number, faces)


def _face(label, matrix, corner):
    """The face's box and eyes, edges and points counted from the photograph's corner."""
    skin = np.isin(label, [v for n, v in LABELS.items() if n not in ("background", "hair")])
    y, x = np.nonzero(skin)
    middle = np.array([(x.min() + x.max()) / 2, (y.min() + y.max()) / 2])
    half = 0.8 * np.array([x.max() - x.min() + 1, y.max() - y.min() + 1]) / 2
    centre = matrix @ [*middle, 1] + 0.5 + corner
    eyes = [matrix @ [*centroid(label == eye), 1] + 0.5 + corner for eye in EYES]
    return Face((*(centre - half), *(centre + half)), 0.9, np.array(eyes))


def centroid(mask):
    """Returns x and y of the middle of what is True."""
    y, x = np.nonzero(mask)
    return np.array([x.mean(), y.mean()])


def roll(face):
    """Returns the turn of a face's eyes, degrees clockwise."""
    x, y = face.landmarks[1] - face.landmarks[0]
    return math.degrees(math.atan2(y, x))
