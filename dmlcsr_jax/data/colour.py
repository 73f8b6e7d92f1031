"""Random changes of a photograph's colours."""

import cv2
import numpy as np

# Share of red, green and blue in the brightness that the eye sees (ITU-R BT.601).
_GREY = np.array([0.299, 0.587, 0.114])


def jitter(
    image: np.ndarray,
    rng: np.random.Generator,
    brightness: float,
    contrast: float,
    saturation: float,
) -> np.ndarray:
    """Changes saturation, contrast and brightness by factors drawn evenly from 1 - v to 1 + v.

    Saturation moves each pixel from its own grey, contrast from the image's mean grey, brightness
    from black. The three are one linear map of the colours.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      rng: source of three draws; of none where all changes are 0.
      brightness: greatest change, 0 to 1.
      contrast: greatest change, 0 to 1.
      saturation: greatest change, 0 to 1.

    Returns:
      uint8 `[H, W, 3]`.
    """
    limits = np.array([brightness, contrast, saturation])
    if not limits.any():
        return image
    bright, contrasted, saturated = 1 + limits * rng.uniform(-1, 1, 3)
    colours = saturated * np.eye(3) + (1 - saturated) * np.tile(_GREY, (3, 1))
    mean = float(_GREY @ cv2.mean(image)[:3])
    matrix = bright * contrasted * colours
    offset = np.full((3, 1), bright * (1 - contrasted) * mean)
    return cv2.transform(image, np.concatenate([matrix, offset], axis=1))
