"""The sound of a video, copied to its overlay by the package av (extra `video`)."""

import heapq
import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

# Copying takes seconds an hour of video.
_MOST_SECONDS = 600
_NO_SOUND = 3


def add_sound(overlay: pathlib.Path, video: str | os.PathLike) -> str | None:
    """Gives an overlay the sound of the video that it is of, as it is, where there is some.

    The video's file is read in a process of its own: it may crash what reads it.

    Args:
      overlay: an mp4 without sound, whose first frame is the video's first; it is replaced.
      video: a local file, or a webcam's device, which has no sound.

    Returns:
      Why the sound is lost, for a message; None where it is there, or there is none, or the package
      av is not installed.
    """
    # A webcam, which is a device, must not be opened again.
    if importlib.util.find_spec("av") is None or not os.path.isfile(video):
        return None
    part = overlay.with_name(f"{overlay.stem}.sound.mp4")
    command = [sys.executable, "-m", __name__, os.path.abspath(video), overlay, part]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_MOST_SECONDS, stdin=subprocess.DEVNULL
        )
        if done.returncode == 0:
            part.replace(overlay)
            return None
        if done.returncode == _NO_SOUND:
            return None
        last = done.stderr.decode(errors="replace").strip().splitlines()
        return last[-1] if last else f"its reader ended with {done.returncode}"
    except subprocess.TimeoutExpired:
        return f"copying it took more than {_MOST_SECONDS} seconds"
    finally:
        part.unlink(missing_ok=True)


def _copy(video: str, overlay: str, target: str) -> int:
    """Writes an overlay with a video's sound; returns the exit status."""
    import av

    with av.open(video) as original, av.open(overlay) as silent:
        if not original.streams.audio:
            return _NO_SOUND
        sound, frames = original.streams.audio[0], silent.streams.video[0]
        start = 0
        if original.streams.video and original.streams.video[0].start_time:
            start = original.streams.video[0].start_time * original.streams.video[0].time_base
        with av.open(target, "w", format="mp4") as out:
            streams = [
                (silent, frames, out.add_stream_from_template(frames), 0),
                (original, sound, out.add_stream_from_template(sound), start),
            ]
            in_order = heapq.merge(
                *(_packets(*stream) for stream in streams), key=lambda timed: timed[0]
            )
            for _, packet in in_order:
                out.mux(packet)
    return 0


def _packets(container, stream, target, start) -> Iterator:
    """Yields a stream's packets for another, with the seconds at which each begins.

    Args:
      container: what the stream is in.
      stream: whose packets.
      target: the stream that they are for.
      start: seconds of the container at which the other one begins; what is before is left out.
    """
    shift = round(start / stream.time_base)
    for packet in container.demux(stream):
        if packet.dts is None or packet.pts is None or packet.pts < shift:
            continue
        packet.pts -= shift
        packet.dts -= shift
        packet.stream = target
        yield float(packet.dts * stream.time_base), packet


if __name__ == "__main__":
    sys.exit(_copy(*sys.argv[1:]))
