"""Photographs of known sizes and numbers of faces, all made of `docs/astronaut.jpg`."""

import pathlib

import cv2
import numpy as np

from dmlcsr_jax.data.decode import decode_image

_FILE = pathlib.Path(__file__).parents[1] / "docs" / "astronaut.jpg"
# The middle of the face, x and y, pixels. It is 89 wide and 112 high.
_FACE = (222, 120)


def photographs() -> dict[str, np.ndarray]:
    """Returns name to photograph, uint8 `[H, W, 3]` RGB."""
    astronaut = decode_image(_FILE.read_bytes(), _FILE.name)
    group = np.zeros((1200, 1200, 3), np.uint8)
    for number, width in enumerate((512, 420, 340, 280)):
        y, x = 600 * (number // 2), 600 * (number % 2)
        group[y : y + 600, x : x + 600] = _view(astronaut, width, (600, 600))
    return {
        "portrait 512x512": _view(astronaut, 190, (512, 512)),
        "astronaut 512x512": astronaut,
        "four faces 1200x1200": group,
        "one face 1920x1080": _view(astronaut, 512, (1920, 1080)),
        "portrait 4000x3000": _view(astronaut, 400, (4000, 3000)),
    }


def _view(astronaut: np.ndarray, width: int, size: tuple[int, int]) -> np.ndarray:
    """Returns the face and what is around it, `width` of its pixels, enlarged to `size`, x and y.

    With noise as of a camera: what is enlarged compresses and is searched as nothing real is.
    """
    shown = np.array([width, width * size[1] / size[0]]).round().astype(int)
    limits = np.array([astronaut.shape[1], astronaut.shape[0]]) - shown
    x, y = np.clip(np.array(_FACE) - shown // 2, 0, limits)
    view = cv2.resize(
        astronaut[y : y + shown[1], x : x + shown[0]], size, interpolation=cv2.INTER_CUBIC
    )
    noise = np.zeros(view.shape, np.int8)
    cv2.setRNGSeed(0)
    cv2.randn(noise, 0, 3)
    return cv2.add(view, noise, dtype=cv2.CV_8U)
