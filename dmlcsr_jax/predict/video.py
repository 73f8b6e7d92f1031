"""Videos: a label map a frame, and an overlay to watch."""

import collections
import concurrent.futures
import contextlib
import fcntl
import itertools
import os
import pathlib
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
from etils import epath

from dmlcsr_jax import visualization
from dmlcsr_jax.data.decode import fingerprint, open_regular
from dmlcsr_jax.errors import UserError, one_line
from dmlcsr_jax.predict import outputs
from dmlcsr_jax.predict.camera import Camera
from dmlcsr_jax.predict.face_parser import FaceParser, Photograph
from dmlcsr_jax.predict.reader import Reader
from dmlcsr_jax.predict.sound import add_sound
from dmlcsr_jax.predict.steady import Steady

# Of a video.
FIRST_FRAME = "000000.png"

# VP9, which browsers play, and MPEG-4 part 2 for an OpenCV that writes none.
_CODECS = ("vp09", "mp4v")
# Frames that wait for the encoder.
_FRAMES_AHEAD = 4


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
      overlay: mp4 to write, of the same frame rate and size (odd sides get a pixel more), with
        the video's sound where the package av is installed; it appears when it is complete. None:
        no overlay.
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
        remote, its overlay cannot be encoded, or another process labels it into the same folder.
      outputs.OutputError: where an output cannot be written.
    """
    path, labels = epath.Path(path), epath.Path(labels)
    for place in (path, labels):
        _require_local(place)
    part = labels.with_name(f".{labels.name}.part")
    count = 0
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_own_folder(part, labels))
            info, frames = stack.enter_context(reader.video(path))
            on_start(info.num_frames)
            write_overlay = None
            if overlay is not None:
                write_overlay = stack.enter_context(_overlay(epath.Path(overlay), path, info.fps))

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
def _own_folder(part: epath.Path, labels: epath.Path) -> Iterator[None]:
    """Makes an empty folder that is this process's, for what is to be renamed to `labels`."""
    while True:
        part.mkdir(parents=True, exist_ok=True)
        folder = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(folder)
            raise UserError(
                f"{labels} is being written by another process; let that one finish, or give "
                "another --out."
            ) from error
        except OSError:  # This file system has no locks.
            break
        if _is_at(folder, part):
            break
        os.close(folder)  # The other one has just renamed it.
    try:
        # A run that was killed has left them.
        for file in part.iterdir():
            file.unlink()
        yield
    finally:
        if _is_at(folder, part):
            _remove(part)
        os.close(folder)


def _is_at(folder: int, path: epath.Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(folder), os.stat(path))


@contextlib.contextmanager
def _overlay(
    path: epath.Path, video: epath.Path, fps: float
) -> Iterator[Callable[[np.ndarray | None], None]]:
    """Gives a function that writes a frame `[H, W, 3]` RGB of an mp4, or with None finishes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = f".{path.name}.part.mp4"
    writer = None
    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(1) as thread,
    ):
        # OpenCV crashes on a name that is no UTF-8.
        (pathlib.Path(folder) / "overlays").symlink_to(os.path.abspath(path.parent))
        (pathlib.Path(folder) / "overlay.mp4").symlink_to(f"overlays/{part}")
        encoded: collections.deque[concurrent.futures.Future] = collections.deque()

        def encode(frame: np.ndarray) -> None:
            nonlocal writer
            # The encoder takes even sides alone, and would cut the others off.
            odd = [side % 2 for side in frame.shape[:2]]
            frame = cv2.copyMakeBorder(frame, 0, odd[0], 0, odd[1], cv2.BORDER_REPLICATE)
            if writer is None:
                writer = _writer(os.path.join(folder, "overlay.mp4"), path, fps, frame.shape[:2])
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

        def write(frame: np.ndarray | None) -> None:
            if frame is not None:
                encoded.append(thread.submit(encode, frame))
            while len(encoded) > (0 if frame is None else _FRAMES_AHEAD):
                encoded.popleft().result()
            if frame is None:
                writer.release()
                if lost := add_sound(path.with_name(part), video):
                    name = one_line(str(path))
                    print(f"warning: {name} has no sound: {one_line(lost)}", file=sys.stderr)
                path.with_name(part).replace(path)

        try:
            yield write
        finally:
            thread.shutdown(cancel_futures=True)
            if writer is not None:
                writer.release()
            path.with_name(part).unlink(missing_ok=True)


def _writer(target: str, path: epath.Path, fps: float, hw: tuple[int, int]) -> cv2.VideoWriter:
    """Returns a writer of the first of the codecs that there is.

    Raises:
      UserError: where there is none for frames of this size.
    """
    for codec in _CODECS:
        writer = cv2.VideoWriter(target, cv2.VideoWriter_fourcc(*codec), fps, (hw[1], hw[0]))
        if writer.isOpened():
            if codec != _CODECS[0]:
                print(
                    f"warning: {one_line(str(path))} is MPEG-4, which browsers do not play: this "
                    "OpenCV writes no VP9; that of opencv-python-headless does.",
                    file=sys.stderr,
                )
            return writer
    raise UserError(f"cannot write {path}: no mp4 of {hw[1]}x{hw[0]} pixels; use --no_overlay.")
