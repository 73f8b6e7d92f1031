"""Pixels through a matrix of `geometry`: images bilinear, labels by the nearest pixel.

The way back is `unwarp`.
"""

import cv2
import numpy as np


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
