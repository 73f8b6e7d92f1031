"""Decoding against Pillow and arrays, and damage told from health."""

import io
import os
import pathlib
import socket
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import decode, label_sets, synthetic
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.errors import UserError

HELEN = label_sets.HELEN
FACE, LABEL = synthetic.draw_face(0, 64)


def encode(array, file_format="PNG", mode=None, **options):
    buffer = io.BytesIO()
    picture = PIL.Image.fromarray(array)
    if mode == "P":
        picture = PIL.Image.fromarray(array)
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tolist())
    elif mode:
        picture = picture.convert(mode)
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "WEBP"])
def test_lossless_images_come_back_in_rgb(file_format):
    data = encode(FACE, file_format, **({"lossless": True} if file_format == "WEBP" else {}))
    np.testing.assert_array_equal(decode.decode_image(data, "a"), FACE)


def test_jpeg_is_rgb():
    image = decode.decode_image(encode(FACE, "JPEG", quality=98, subsampling=0), "a.jpg")
    assert np.abs(image.astype(int) - FACE).mean() < 3


def test_grey_and_transparent_images_become_rgb():
    grey = FACE[..., 0]
    image = decode.decode_image(encode(grey), "a.png")
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    transparent = np.dstack([FACE, np.full(FACE.shape[:2], 7, np.uint8)])
    np.testing.assert_array_equal(decode.decode_image(encode(transparent), "a.png"), FACE)


def test_exif_orientation_is_applied():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    landscape = np.ascontiguousarray(FACE[:40])
    data = encode(landscape, "JPEG", quality=98, subsampling=0, exif=exif)
    image = decode.decode_image(data, "a.jpg")
    assert image.shape == (64, 40, 3)
    assert np.abs(image.astype(int) - np.rot90(landscape, -1)).mean() < 3


@pytest.mark.parametrize("cut", [3, 30, 400, -60])
def test_cut_off_jpeg_is_refused_by_name(cut):
    data = encode(FACE, "JPEG", quality=95)
    with pytest.raises(UserError, match=r"faces/x\.jpg is cut off"):
        decode.decode_image(data[:-cut], "faces/x.jpg")


def test_jpeg_cut_off_behind_its_thumbnail_is_refused():
    exif = b"Exif\x00\x00" + encode(FACE, "JPEG")
    data = encode(FACE, "JPEG", quality=95, exif=exif)
    assert data.count(b"\xff\xd9") >= 2
    decode.decode_image(data, "x.jpg")
    with pytest.raises(UserError, match=r"x\.jpg"):
        decode.decode_image(data[: len(data) - 200], "x.jpg")
    with pytest.raises(UserError, match=r"x\.jpg"):
        decode.decode_image(data[: len(exif) + 30], "x.jpg")


def test_jpeg_with_something_behind_it_is_accepted():
    data = encode(FACE, "JPEG", quality=95)
    whole = decode.decode_image(data, "a.jpg")
    np.testing.assert_array_equal(decode.decode_image(data + b"\0" * 50, "a.jpg"), whole)
    np.testing.assert_array_equal(decode.decode_image(data + b"camera maker", "a.jpg"), whole)


def test_damaged_png_is_refused_by_name():
    for array, function in (
        (FACE, lambda data: decode.decode_image(data, "x.png")),
        (LABEL, lambda data: decode.decode_label(data, "x.png", HELEN)),
    ):
        data = bytearray(encode(array))
        function(bytes(data))
        for broken in (data[:-1], data[:-12], data[: len(data) // 2], b"", data[:20]):
            with pytest.raises(UserError, match=r"x\.png|is empty"):
                function(bytes(broken))
        data[len(data) // 2] ^= 4
        with pytest.raises(UserError, match=r"x\.png is cut off or damaged"):
            function(bytes(data))


def test_what_is_no_picture_is_refused():
    for function in (
        lambda: decode.decode_image(b"<html>404 not found</html>", "x.jpg"),
        lambda: decode.decode_label(b"<html>404 not found</html>", "x.jpg", HELEN),
    ):
        with pytest.raises(UserError, match=r"x\.jpg is not a readable"):
            function()


@pytest.mark.parametrize("mode", ["L", "P"])
def test_labels_are_values_and_indices_not_colours(mode):
    label = decode.decode_label(encode(LABEL, mode=mode), "l.png", HELEN)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, LABEL)


def test_labels_of_few_and_many_bits():
    few = (LABEL > 0).astype(np.uint8)
    data = cv2.imencode(".png", LABEL.astype(np.uint16))[1].tobytes()
    np.testing.assert_array_equal(decode.decode_label(data, "l.png", HELEN), LABEL)
    buffer = io.BytesIO()
    picture = PIL.Image.fromarray(few)
    picture.putpalette([0, 0, 0, 200, 10, 10])
    picture.save(buffer, "PNG", bits=1)
    np.testing.assert_array_equal(decode.decode_label(buffer.getvalue(), "l.png", HELEN), few)
    bilevel = encode(few * np.uint8(255), mode="1")
    np.testing.assert_array_equal(decode.decode_label(bilevel, "l.png", HELEN), few)


def test_grey_labels_in_three_channels_are_accepted_and_colours_refused():
    grey = np.repeat(LABEL[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode.decode_label(encode(grey), "l.png", HELEN), LABEL)
    colours = np.array(HELEN.palette, np.uint8)[LABEL]
    with pytest.raises(UserError, match=r"l\.png is a colour picture"):
        decode.decode_label(encode(colours), "l.png", HELEN)
    with pytest.raises(UserError, match=r"l\.png is a JPEG"):
        decode.decode_label(encode(LABEL, "JPEG"), "l.png", HELEN)


@pytest.mark.parametrize("value", [11, 19, 254])
def test_label_above_the_class_count_is_named_with_its_place(value):
    label = LABEL.copy()
    label[5, 7] = 255
    decode.decode_label(encode(label), "l.png", HELEN)
    label[9, 3] = value
    with pytest.raises(UserError, match=rf"l\.png has label {value} at row 9, column 3.*'helen'"):
        decode.decode_label(encode(label), "l.png", HELEN)


def test_large_16_bit_label_is_refused_not_wrapped():
    label = LABEL.astype(np.uint16)
    label[0, 0] = 257
    with pytest.raises(UserError, match="label 257 at row 0, column 0"):
        decode.decode_label(cv2.imencode(".png", label)[1].tobytes(), "l.png", HELEN)


def test_sizes_must_agree_or_divide():
    def check(image_hw, label_hw):
        decode.check_shapes(np.zeros((*image_hw, 3)), np.zeros(label_hw), "i.jpg", "l.png")

    check((64, 48), (64, 48))
    check((1024, 1024), (512, 512))
    check((90, 60), (30, 20))
    for label_hw in ((48, 64), (64, 47), (128, 96), (32, 48), (63, 48)):
        with pytest.raises(UserError, match=r"i\.jpg is 48x64.*l\.png is"):
            check((64, 48), label_hw)
    with pytest.raises(UserError, match="EXIF"):
        check((64, 48), (48, 64))


def jpeg_of(width, height):
    """A JPEG that says it has that many pixels, with too few data."""
    data = bytearray(encode(FACE, "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def png_of(width, height):
    """A grey PNG that says it has that many pixels, its check sums right."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("tail", [b"", b"x"], ids=["plain", "with a byte more"])
@pytest.mark.parametrize("hw", [(10_001, 10_000), (20_000, 20_000), (65_000, 65_000)])
def test_a_photograph_above_the_limit_is_refused_before_it_is_decoded(hw, tail):
    for data in (jpeg_of(*hw) + tail, png_of(*hw) + tail):
        with pytest.raises(UserError, match=r"x\.jpg.* more pixels than the limit of 100,000,000"):
            decode.decode_image(data, "x.jpg")


@pytest.mark.parametrize("side", [10_001, 20_000, 33_000, 100_000])
def test_a_label_map_above_the_limit_is_refused_before_it_is_decoded(side):
    with pytest.raises(UserError, match=r"l\.png.* more pixels than the limit of 100,000,000"):
        decode.decode_label(png_of(side, side), "l.png", HELEN)


def test_the_limit_of_pixels_can_be_set():
    data = encode(FACE)
    decode.decode_image(data, "x.png", Limits(pixels=64 * 64))
    for function in (
        decode.decode_image,
        lambda *args: decode.decode_label(*args[:2], HELEN, args[2]),
    ):
        with pytest.raises(UserError, match=r"x\.png, 64x64 pixels, has more .* \(--max_pixels\)"):
            function(data, "x.png", Limits(pixels=64 * 64 - 1))


def test_limits_are_positive_numbers():
    for value in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"--max_seconds is .*; it must be more than 0"):
            Limits(seconds=value)


def test_only_regular_files_are_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "to pipe").symlink_to(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # A long path is none for a socket.
        server.bind("socket")
        for name in ("pipe", "zero", "to pipe", "socket"):
            with pytest.raises(
                UserError, match=f"{name} cannot be read: it is a named pipe, a dev"
            ):
                decode.read_bytes(tmp_path / name)
    with pytest.raises(UserError, match="it is a folder"):
        decode.read_bytes(tmp_path)
    with pytest.raises(UserError, match=r"missing cannot be read \(No such file"):
        decode.read_bytes(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert decode.read_bytes(tmp_path / "link") == b"content"


def test_a_file_above_the_limit_of_bytes_is_refused_unread(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"12345")
    assert decode.read_bytes(path, Limits(file_bytes=5)) == b"12345"
    with pytest.raises(UserError, match=r"x\.jpg has more bytes than the limit of 4; .*bytes\)"):
        decode.read_bytes(path, Limits(file_bytes=4))
    # Sparse: it has no content to read, and 1 TB of it.
    os.truncate(path, 2**40)
    with pytest.raises(UserError, match="more bytes than the limit of 268,435,456"):
        decode.read_bytes(path)
    # It says that it has none.
    with pytest.raises(UserError, match="more bytes than the limit of 4"):
        decode.read_bytes(pathlib.Path("/proc/meminfo"), Limits(file_bytes=4))


def test_postscript_by_another_name_runs_no_program(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    data = io.BytesIO()
    PIL.Image.fromarray(FACE).save(data, "EPS")
    for decoded in (
        lambda: decode.decode_label(data.getvalue(), "x.png", HELEN),
        lambda: decode.decode_image(data.getvalue(), "x.png"),
    ):
        with pytest.raises(UserError, match=r"x\.png is not a readable picture"):
            decoded()
    assert not ran.exists()


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF", "TIFF", "PPM", "TGA", "PCX"])
def test_label_maps_of_other_lossless_formats_are_read(file_format):
    data = encode(LABEL, file_format)
    np.testing.assert_array_equal(decode.decode_label(data, "x", HELEN), LABEL)
