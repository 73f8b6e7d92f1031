"""What a decoder process does with a video."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

from dmlcsr_jax.data import animation
from dmlcsr_jax.data.decode import open_regular
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError

# No playlists, which name other files to read.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
_DEFAULT_FPS = 25.0


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a video says of itself.

    Attributes:
      hw: height and width of its frames, before any rotation.
      fps: frames a second; 25 where it says nothing.
      num_frames: how many it announces; None where it says nothing.
    """

    hw: tuple[int, int]
    fps: float
    num_frames: int | None


def video_steps(path: pathlib.Path, limits: Limits) -> Iterator[VideoInfo | np.ndarray]:
    """Reads a video.

    Args:
      path: the file, local, of any name.
      limits: pixels of a frame, and how many frames there may be.

    Yields:
      A `VideoInfo`, then each frame, uint8 `[H, W, 3]` RGB.

    Raises:
      UserError: where the file is no video, breaks off, or is beyond a limit.
    """
    if animation.is_animated(path):
        yield from _animation_steps(path, limits)
        return
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"format_whitelist;{_FORMATS}"
    with open_regular(path) as file:
        # OpenCV crashes on a name that is no UTF-8; by its number a file has no neighbours either.
        capture = cv2.VideoCapture(f"/dev/fd/{file.fileno()}", cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise UserError(f"{path} is not a readable video; replace it or leave it out.")
        info = _info(capture)
        _check(path, info, limits)
        yield info
        count, first = 0, ()
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            count += 1
            if count > limits.frames:
                raise _too_many_frames(path, limits)
            first = frame.shape if count == 1 else first
            if frame.shape != first:
                raise UserError(
                    f"{path} has frames of {first[1]}x{first[0]} and of "
                    f"{frame.shape[1]}x{frame.shape[0]} pixels; convert it to one size."
                )
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    announced = info.num_frames or 0
    # Containers round their length: a frame or two may be missing at the end.
    if count == 0 or count < 0.95 * announced - 2:
        raise UserError(
            f"{path}: {count} of {announced} frames could be read; it is damaged or no video."
        )


def _animation_steps(path: pathlib.Path, limits: Limits) -> Iterator[VideoInfo | np.ndarray]:
    for count, (frame, seconds) in enumerate(animation.frames(path, limits), start=1):
        if count == 1:
            # How many there are is known at the end; the first one's time is taken for all.
            yield VideoInfo(frame.shape[:2], 1 / seconds, None)
        if count > limits.frames:
            raise _too_many_frames(path, limits)
        yield frame


def _info(capture: cv2.VideoCapture) -> VideoInfo:
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    hw = (capture.get(cv2.CAP_PROP_FRAME_HEIGHT), capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    return VideoInfo(
        hw=(int(hw[0]), int(hw[1])),
        fps=fps if math.isfinite(fps) and fps > 0 else _DEFAULT_FPS,
        num_frames=int(count) if math.isfinite(count) and count > 0 else None,
    )


def _check(path: pathlib.Path, info: VideoInfo, limits: Limits) -> None:
    height, width = info.hw
    if height * width > limits.pixels:
        raise UserError(
            f"{path}, {width}x{height} pixels, has more pixels than the limit of "
            f"{limits.pixels:,}; make it smaller, or raise the limit (--max_pixels)."
        )
    if (info.num_frames or 0) > limits.frames:
        raise _too_many_frames(path, limits)


def _too_many_frames(path: pathlib.Path, limits: Limits) -> UserError:
    return UserError(
        f"{path} has more frames than the limit of {limits.frames:,}; cut it in parts, or raise "
        "the limit (--max_frames)."
    )
