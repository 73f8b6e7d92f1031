"""Photographs from which the ranges of activations are taken, before a network becomes 8 bit."""

from collections.abc import Iterator

import jax
import numpy as np
from etils import epath

from dmlcsr_jax.data import geometry, warp
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.export.program import fit
from dmlcsr_jax.predict.photographs import PhotoFiles, read_photograph

# More changed mean F1 by less than a tenth of a point.
MAX_PHOTOGRAPHS = 100


def calibration_inputs(folder: epath.PathLike, size: int) -> Iterator[np.ndarray]:
    """Yields the network's inputs, float32 `[1, size, size, 3]`, for photographs in a folder.

    Of more than `MAX_PHOTOGRAPHS` as many are taken, evenly over the folder's order.

    Raises:
      UserError: where there is no photograph, or one cannot be read.
    """
    # Shapes vary, and each would compile a program of its own.
    with jax.disable_jit():
        for photograph in _photographs(folder):
            yield np.asarray(fit(photograph[None], size))


def calibration_photographs(folder: epath.PathLike, hw: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields the same photographs at one size, uint8 `[*hw, 3]`.

    They fill a square of the longer side; what is beyond the shorter is cut.

    Raises:
      UserError: as `calibration_inputs`.
    """
    size = max(hw)
    top, left = ((size - side) // 2 for side in hw)
    for photograph in _photographs(folder):
        matrix = geometry.box_matrix(geometry.photograph_box(photograph.shape[:2]), size)
        square = warp.warp_image(photograph, matrix, size)
        yield np.ascontiguousarray(square[top : top + hw[0], left : left + hw[1]])


def _photographs(folder: epath.PathLike) -> Iterator[np.ndarray]:
    files = PhotoFiles([folder])
    paths = [picture.source for picture in files if not picture.is_video]
    if not paths:
        raise UserError(f"{folder} holds no photograph to calibrate by; name a folder of some.")
    count = min(len(paths), MAX_PHOTOGRAPHS)
    for place in range(count):
        yield read_photograph(paths[place * len(paths) // count])
