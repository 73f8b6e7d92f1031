import contextlib
import io
import struct
import subprocess
import sys

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import animation, heic
from dmlcsr_jax.data.decode import decode_image
from dmlcsr_jax.data.decode_video import VideoInfo, video_steps
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError


def save_animation(path, count, **options):
    """Writes frames of distinct greys."""
    greys = [np.full((12, 20), 40 * (i % 6) + 5, np.uint8) for i in range(count)]
    first, *rest = [PIL.Image.fromarray(grey) for grey in greys]
    if path.suffix == ".webp":
        options["lossless"] = True
    first.save(path, save_all=True, append_images=rest, duration=50, **options)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("options", [{}, {"loop": 0}])
def test_frames_come_back(tmp_path, suffix, options):
    path = tmp_path / f"a{suffix}"
    save_animation(path, 4, **options)
    assert animation.is_animated(path)
    info, *frames = video_steps(path, Limits())
    assert info == VideoInfo((12, 20), 20.0, None)
    assert [frame.shape for frame in frames] == [(12, 20, 3)] * 4
    assert [int(frame[5, 5, 1]) for frame in frames] == [5, 45, 85, 125]


def test_still_pictures_are_told_apart(tmp_path):
    for suffix in (".gif", ".webp", ".png", ".jpg"):
        PIL.Image.new("RGB", (20, 12)).save(tmp_path / f"a{suffix}")
        assert not animation.is_animated(tmp_path / f"a{suffix}")
    assert not animation.is_animated(tmp_path / "none.gif")
    assert not animation.is_animated("gs://bucket/a.gif")


def test_damaged_animations_are_no_animations_or_named(tmp_path):
    save_animation(tmp_path / "a.gif", 4)
    data = (tmp_path / "a.gif").read_bytes()
    rng = np.random.default_rng(0)
    for length in [*range(0, 60, 7), *rng.integers(60, len(data), 20)]:
        (tmp_path / "b.gif").write_bytes(data[:length])
        # Where frames are missing, either is fine; nothing else is raised.
        if animation.is_animated(tmp_path / "b.gif"):
            with contextlib.suppress(UserError):
                list(video_steps(tmp_path / "b.gif", Limits()))


def test_an_animation_of_a_thousand_frames_is_read_one_by_one_up_to_the_limit(tmp_path):
    path = tmp_path / "a.gif"
    save_animation(path, 1000)
    steps = video_steps(path, Limits(frames=900))
    assert next(steps).num_frames is None
    for _ in range(900):
        next(steps)
    with pytest.raises(UserError, match="more frames than the limit of 900"):
        next(steps)
    with pytest.raises(UserError, match="more pixels than the limit of 100"):
        list(video_steps(path, Limits(pixels=100)))


def gif(screen, *frames):
    """Returns a GIF of black frames `(width, height)`, of whatever size the screen has."""
    data = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    for frame in frames:
        # Left to be replaced by the background, which takes the frame's own memory.
        data += b"!\xf9\x04\x08\0\0\0\0," + struct.pack("<HHHHB", 0, 0, *frame, 0)
        # Codes of three bits, the first the lowest: begin anew, colour 0, begin anew, and so on.
        codes = sum(4 << 6 * i for i in range(min(frame[0] * frame[1], 100)))
        pixels = codes.to_bytes(80, "little")
        data += b"\2" + bytes([len(pixels)]) + pixels + b"\0"
    return data + b";"


@pytest.mark.parametrize("place", [1, 2])
def test_a_frame_larger_than_the_picture_takes_no_memory(tmp_path, place):
    path = tmp_path / "a.gif"
    frames = [(1, 1)] * 4
    frames[place] = (60000, 60000)
    path.write_bytes(gif((1, 1), *frames))
    assert path.stat().st_size < 500
    program = (
        "import pathlib, resource, sys; from dmlcsr_jax.data import decode_video, limits\n"
        "import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = None  # as in the decoder processes\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))\n"
        "list(decode_video.video_steps(pathlib.Path(sys.argv[1]), limits.Limits()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60
    )
    assert "UserError" in done.stderr
    assert "has more pixels than the limit of 100,000,000" in done.stderr


def test_frames_of_several_sizes_are_refused(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(gif((4, 4), (4, 4), (4, 4), (9, 4)))
    before = PIL.Image.MAX_IMAGE_PIXELS
    with pytest.raises(UserError, match=r"a\.gif has a frame that exceeds the picture's 4x4"):
        list(video_steps(path, Limits()))
    assert before == PIL.Image.MAX_IMAGE_PIXELS


def heic_bytes(image, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    data = io.BytesIO()
    PIL.Image.fromarray(image).save(data, format="HEIF", quality=95, **options)
    return data.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_read_in_its_orientation(orientation):
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48] = (250, 20, 20)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    found = decode_image(heic_bytes(image, exif=exif.tobytes()), "a.heic")
    expected = image if orientation == 1 else cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)
    assert found.shape == expected.shape
    assert np.mean(np.abs(found.astype(int) - expected)) < 6


def test_damaged_heic_is_named():
    data = heic_bytes(np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(UserError, match=r"a\.heic"):
        decode_image(data[: len(data) // 2], "a.heic")


def test_the_missing_extra_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic" + bytes(40)
    assert heic.is_heic(data)
    with pytest.raises(UserError, match=r"a\.heic is HEIC.*pip install pillow-heif"):
        decode_image(data, "a.heic")
