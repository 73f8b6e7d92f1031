"""Videos: a label map a frame, and an overlay to watch."""

import contextlib
import itertools
import os
import pathlib
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
from etils import epath

from dmlcsr_jax import visualization
from dmlcsr_jax.data.decode import fingerprint, open_regular
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import outputs
from dmlcsr_jax.predict.camera import Camera
from dmlcsr_jax.predict.face_parser import FaceParser, Photograph
from dmlcsr_jax.predict.reader import Reader
from dmlcsr_jax.predict.steady import Steady

# Of a video.
FIRST_FRAME = "000000.png"


def fingerprint_of(path: epath.PathLike) -> str:
    """Returns the fingerprint of a video's content.

    Raises:
      UserError: where it is remote or cannot be read.
    """
    _require_local(path)
    with open_regular(path) as file:
        return fingerprint(file)


def parse_video(
    parser: FaceParser,
    reader: Reader | Camera,
    path: epath.PathLike,
    labels: epath.PathLike,
    overlay: epath.PathLike | None,
    *,
    overlay_alpha: float = 0.5,
    steady: bool = True,
    photograph_of: Callable[[np.ndarray], Photograph] = Photograph,
    texts: Mapping[str, str] = types.MappingProxyType({}),
    on_start: Callable[[int | None], None] = lambda num_frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> int:
    """Parses every frame of a video.

    Args:
      parser: the network.
      reader: decodes the video.
      path: the video, a local file.
      labels: folder of palette PNGs `000000.png`, `000001.png`, ... at the video's size; it appears
        when it is complete.
      overlay: mp4 to write, of the same size and frame rate and without sound; it appears when it
        is complete. None: no overlay.
      overlay_alpha: share of the tint, 0 to 1.
      steady: holds faces and parts steady from frame to frame; else each is parsed by itself.
      photograph_of: makes a photograph, with its faces, of a frame.
      texts: kept in each PNG.
      on_start: called with the number of frames that the video announces, None for none.
      on_frame: called after each frame.

    Returns:
      The number of frames.

    Raises:
      UserError: where the video has no frame that can be read, breaks off, is beyond a limit or
        remote.
      outputs.OutputError: where an output cannot be written.
    """
    path, labels = epath.Path(path), epath.Path(labels)
    for place in (path, labels):
        _require_local(place)
    part = labels.with_name(f".{labels.name}.part")
    count = 0
    try:
        with contextlib.ExitStack() as stack:
            _remove(part)
            stack.callback(_remove, part)
            part.mkdir(parents=True)
            info, frames = stack.enter_context(reader.video(path))
            on_start(info.num_frames)
            write_overlay = None
            if overlay is not None:
                write_overlay = stack.enter_context(_overlay(epath.Path(overlay), info.fps))

            def finish(item, result):
                name = f"{item[0]:06d}"
                data = outputs.label_png(result.label, parser.label_set, name, texts)
                outputs.write(part / f"{name}.png", data)
                if overlay is None:
                    return None
                return visualization.overlay(item[1], result.label, parser.label_set, overlay_alpha)

            held = Steady() if steady else None
            numbered = enumerate(frames)
            while some := list(itertools.islice(numbered, 1)):
                # Large frames go through the network in small groups, no more of them in memory.
                group = itertools.chain(
                    some, itertools.islice(numbered, reader.frames_at_a_time(info) - 1)
                )
                for _, frame in parser.results(
                    group, lambda f: photograph_of(f[1]), finish, steady=held
                ):
                    if isinstance(frame, UserError):
                        raise frame
                    if write_overlay is not None:
                        write_overlay(frame)
                    count += 1
                    on_frame()
            # Stopped here, it has no labels rather than those of another overlay.
            _remove(labels)
            if write_overlay is not None:
                write_overlay(None)
            part.rename(labels)
        return count
    except OSError as error:
        raise outputs.cannot_write(labels, error) from error


def _require_local(path: epath.PathLike) -> None:
    if "://" in os.fspath(path):
        raise UserError(f"{path} is remote; videos are read and written as local files.")


def _remove(folder: epath.Path) -> None:
    if folder.is_dir():
        folder.rmtree()


@contextlib.contextmanager
def _overlay(path: epath.Path, fps: float) -> Iterator[Callable[[np.ndarray | None], None]]:
    """Gives a function that writes a frame `[H, W, 3]` RGB of an mp4, or with None finishes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = f".{path.name}.part.mp4"
    writer = None
    with tempfile.TemporaryDirectory() as folder:
        # OpenCV crashes on a name that is no UTF-8.
        (pathlib.Path(folder) / "overlays").symlink_to(os.path.abspath(path.parent))
        (pathlib.Path(folder) / "overlay.mp4").symlink_to(f"overlays/{part}")

        def write(frame: np.ndarray | None) -> None:
            nonlocal writer
            if frame is None:
                writer.release()
                path.with_name(part).replace(path)
                return
            if writer is None:
                hw = frame.shape[:2]
                codec = cv2.VideoWriter_fourcc(*"mp4v")
                target = os.path.join(folder, "overlay.mp4")
                writer = cv2.VideoWriter(target, codec, fps, (hw[1], hw[0]))
                if not writer.isOpened():
                    raise outputs.OutputError(
                        f"cannot write {path}: no mp4 of {hw[1]}x{hw[0]} pixels; use --no_overlay."
                    )
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

        try:
            yield write
        finally:
            if writer is not None:
                writer.release()
            path.with_name(part).unlink(missing_ok=True)
