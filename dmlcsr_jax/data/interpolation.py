"""Linear interpolation along an axis as a small matrix."""

import functools

import numpy as np


@functools.lru_cache
def interpolation_matrix(num_out: int, num_in: int) -> np.ndarray:
    """Returns float64 `[num_out, num_in]`, the linear interpolation with both ends aligned."""
    position = np.arange(num_out) * ((num_in - 1) / max(num_out - 1, 1))
    distance = np.abs(position[:, None] - np.arange(num_in)[None, :])
    return np.maximum(1.0 - distance, 0.0)
