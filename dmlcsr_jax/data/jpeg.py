"""Whether the data of a JPEG cover its pixels, which decoders do not say: they fill with grey."""

import re

import simplejpeg

START = b"\xff\xd8\xff"
SCAN = b"\xff\xda"
_STRAY = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0x([0-9a-f]{2})")
_END = "d9"
# Frame headers of progressive pictures.
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
# Markers without a length.
_BARE = (0x01, *range(0xD0, 0xDA))


def damage(data: bytes) -> str | None:
    """Returns what is wrong with the data of a JPEG; None where they cover its pixels.

    Everything is decoded but for the pixels themselves, which takes a tenth of the time; any
    number of threads may ask. Bytes that belong to nothing, as some cameras write them between
    the headers and after the picture, harm no pixel. Of what the decoder does not know, None.

    Args:
      data: the file's bytes.
    """
    message = _first_warning(data)
    if message is None or not (stray := _STRAY.match(message)):
        return message
    # The decoder tells of the first fault alone, which may be harmless and hide another.
    plain, is_progressive = _without_stray_bytes(data)
    message = _first_warning(plain)
    stray = message and _STRAY.match(message)
    return None if stray and stray[1] == _END and not is_progressive else message


def _first_warning(data: bytes) -> str | None:
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        message = str(error)
        return message if message.startswith(("Corrupt JPEG data", "Premature end")) else None
    return None


def _without_stray_bytes(data: bytes) -> tuple[bytes, bool]:
    """Returns a JPEG without the bytes between its headers, and whether it is progressive."""
    parts = [data[:2]]
    place, is_progressive = 2, False
    while (start := data.find(b"\xff", place)) >= 0 and start + 4 <= len(data):
        kind = data[start + 1]
        if kind in (0x00, 0xFF) or kind in _BARE:
            place = start + 1
            continue
        if kind == SCAN[1]:
            parts.append(data[start:])
            return b"".join(parts), is_progressive
        is_progressive |= kind in _PROGRESSIVE
        place = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        parts.append(data[start:place])
    return data, is_progressive
