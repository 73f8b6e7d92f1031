"""Videos: a label map a frame, and an overlay to watch."""

import math
import os
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from etils import epath

from dmlcsr_jax import visualization
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import outputs
from dmlcsr_jax.predict.face_parser import Box, FaceParser, Photograph

_DEFAULT_FPS = 25.0


def num_frames(path: epath.PathLike) -> int | None:
    """Returns how many frames a video says it has; None where it says nothing."""
    capture = cv2.VideoCapture(os.fspath(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else None


def parse_video(
    parser: FaceParser,
    path: epath.PathLike,
    labels: epath.PathLike,
    overlay: epath.PathLike | None,
    *,
    overlay_alpha: float = 0.5,
    boxes: Sequence[Box] = (),
    on_frame: Callable[[], None] = lambda: None,
) -> int:
    """Parses every frame of a video.

    Args:
      parser: the network.
      path: the video, a local file.
      labels: folder of palette PNGs `000000.png`, `000001.png`, ... at the video's size; it appears
        when it is complete.
      overlay: mp4 to write, of the same size and frame rate and without sound; it appears when it
        is complete. None: no overlay.
      overlay_alpha: share of the tint, 0 to 1.
      boxes: faces to look at in every frame, as in `Photograph`.
      on_frame: called after each frame.

    Returns:
      The number of frames.

    Raises:
      UserError: where the video has no frame that can be read, breaks off, or is remote.
      outputs.OutputError: where an output cannot be written.
    """
    path, labels = epath.Path(path), epath.Path(labels)
    for place in (path, labels):
        if "://" in os.fspath(place):
            raise UserError(f"{place} is remote; videos are read and written as local files.")
    capture = cv2.VideoCapture(os.fspath(path))
    part = labels.with_name(f".{labels.name}.part")
    if part.exists():
        part.rmtree()
    overlay_part = writer = None
    try:
        part.mkdir(parents=True)
        if overlay is not None:
            overlay = epath.Path(overlay)
            overlay.parent.mkdir(parents=True, exist_ok=True)
            overlay_part = overlay.with_name(f".{overlay.name}.part.mp4")

        def finish(item, photograph, label):
            name = f"{item[0]:06d}"
            outputs.write(part / f"{name}.png", outputs.label_png(label, parser.label_set, name))
            if overlay is None:
                return None
            return visualization.overlay(photograph.image, label, parser.label_set, overlay_alpha)

        count = 0
        frames = parser.stream(_frames(capture), lambda item: Photograph(item[1], boxes), finish)
        for _, frame in frames:
            if isinstance(frame, UserError):
                raise frame
            if overlay is not None:
                writer = writer or _open_writer(overlay_part, capture, frame.shape[:2])
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            count += 1
            on_frame()
        announced = num_frames(path) or 0
        # Containers round their length: a frame or two may be missing at the end.
        if count == 0 or count < 0.95 * announced - 2:
            raise UserError(
                f"{path}: {count} of {announced} frames could be read; it is damaged or no video."
            )
        if writer is not None:
            writer.release()
            overlay_part.replace(overlay)
        if labels.exists():
            labels.rmtree()
        part.rename(labels)
        return count
    except OSError as error:
        raise outputs.cannot_write(labels, error) from error
    finally:
        capture.release()
        if writer is not None:
            writer.release()
        if part.exists():
            part.rmtree()
        if overlay_part is not None:
            overlay_part.unlink(missing_ok=True)


def _frames(capture: cv2.VideoCapture) -> Iterator[tuple[int, np.ndarray]]:
    index = 0
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return
        yield index, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        index += 1


def _open_writer(path: epath.Path, capture: cv2.VideoCapture, hw) -> cv2.VideoWriter:
    fps = capture.get(cv2.CAP_PROP_FPS)
    fps = fps if math.isfinite(fps) and fps > 0 else _DEFAULT_FPS
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(os.fspath(path), codec, fps, (hw[1], hw[0]))
    if not writer.isOpened():
        raise outputs.OutputError(
            f"cannot write {path}: no mp4 of {hw[1]}x{hw[0]} pixels; use --no_overlay."
        )
    return writer
