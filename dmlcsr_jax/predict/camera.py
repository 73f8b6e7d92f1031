"""Webcams: a device file that is read like a video, until Ctrl-C or the limit of frames."""

import contextlib
import os
import re
import signal
import stat
from collections.abc import Iterator

import cv2
import numpy as np
from etils import epath

from dmlcsr_jax.data.decode_video import VideoInfo
from dmlcsr_jax.errors import UserError

_DEVICE = re.compile(r"/dev/video\d+")
_DEFAULT_FPS = 25.0


def is_camera(path: epath.PathLike) -> bool:
    """Returns whether a path is a webcam's device file, such as `/dev/video0`."""
    path = os.fspath(path)
    try:
        return bool(_DEVICE.fullmatch(path)) and stat.S_ISCHR(os.stat(path).st_mode)
    except OSError:
        return False


def require_new(labels: epath.Path) -> None:
    """Checks that no earlier recording is where a webcam's label maps are to be written.

    Raises:
      UserError: where there is one.
    """
    if labels.exists():
        raise UserError(f"{labels} holds an earlier recording; give another --out.")


class Camera:
    """Reads a webcam as `reader.Reader` reads a video.

    Args:
      max_frames: after which it stops.
    """

    def __init__(self, max_frames: int):
        self._max_frames = max_frames

    @contextlib.contextmanager
    def video(self, path: epath.PathLike) -> Iterator[tuple[VideoInfo, Iterator[np.ndarray]]]:
        """Gives what a webcam says of itself, and its frames, uint8 `[H, W, 3]` RGB.

        The first Ctrl-C ends the frames, so that what was seen is written; the next one the run.

        Raises:
          UserError: where it cannot be opened, or gives no frame.
        """
        capture = cv2.VideoCapture(os.fspath(path))
        stopped = []

        def stop(number, frame) -> None:
            stopped.append(number)
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, stop)
        try:
            fps = capture.get(cv2.CAP_PROP_FPS)
            is_read, first = capture.read()
            if not is_read:
                raise UserError(f"{path} gives no picture; see whether another program uses it.")

            def frames() -> Iterator[np.ndarray]:
                frame, is_read, count = first, True, 0
                while is_read and not stopped:
                    yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                    count += 1
                    if count == self._max_frames:
                        return
                    is_read, frame = capture.read()

            yield VideoInfo(first.shape[:2], fps if fps > 0 else _DEFAULT_FPS, None), frames()
        finally:
            signal.signal(signal.SIGINT, before)
            capture.release()

    def frames_at_a_time(self, info: VideoInfo) -> int:
        """Returns how many frames may wait: those of one stream, which has bounds of its own."""
        del info
        return self._max_frames
