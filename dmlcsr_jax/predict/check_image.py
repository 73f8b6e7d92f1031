"""The one check of a photograph that is given as an array; it needs NumPy alone."""

from typing import Any

import numpy as np

from dmlcsr_jax.errors import UserError


def check_image(image: Any) -> None:
    """Checks that something is uint8 `[H, W, 3]`.

    Raises:
      UserError: says what it is instead, and what to do.
    """
    is_array = isinstance(image, np.ndarray)
    is_rgb = is_array and image.ndim == 3 and image.shape[2] == 3 and 0 not in image.shape
    if is_rgb and image.dtype == np.uint8:
        return
    found = f"{image.dtype} {image.shape}" if is_array else type(image).__name__
    advice = ""
    if is_array and image.dtype.kind == "f":
        advice = "; numbers of 0 to 1 must be multiplied by 255 and converted to uint8"
        if np.isnan(image).any():
            advice = "; it holds NaN"
    elif is_array and image.ndim == 2:
        advice = "; repeat grey three times"
    raise UserError(f"a photograph must be a uint8 array [H, W, 3] in RGB, not {found}{advice}.")
