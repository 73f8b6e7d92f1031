"""Masks as lengths of runs, the way CVAT and Label Studio keep them, and back; and from COCO's."""

import math

import numpy as np

from dmlcsr_jax.errors import UserError

# Label Studio's: bits of a value, and of the four sizes that a run's length may have.
_VALUE_BITS = 8
_LENGTH_BITS = (3, 4, 8, 16)
_MOST = 2 ** _LENGTH_BITS[-1]
# Values of each pixel, red to alpha.
_CHANNELS = 4


def runs_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each run's value and its length, of values `[N]`."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] ^ 1))
    return values[starts], np.diff(starts, append=len(values))


def cvat_runs(mask: np.ndarray) -> tuple[list[int], tuple[int, int, int, int]]:
    """Returns a mask as CVAT keeps it: row by row in its box, lengths of outside and inside.

    Args:
      mask: bool `[H, W]`, not empty.

    Returns:
      The lengths, outside first; left, top, width and height of the box.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = rows[0], columns[0]
    inner = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    values, lengths = runs_of(inner.ravel())
    lengths = [*([0] if values[0] else []), *lengths.tolist()]
    return lengths, (int(left), int(top), inner.shape[1], inner.shape[0])


def from_cvat_runs(
    lengths: np.ndarray, box: tuple[int, int, int, int], hw: tuple[int, int]
) -> np.ndarray:
    """Returns bool `[H, W]` of a mask as `cvat_runs` returns it; what lies outside is left out.

    Raises:
      UserError: where the lengths do not fill the box, or it is larger than the image may be.
    """
    left, top, width, height = box
    lengths = np.asarray(lengths, np.int64)
    fits = width > 0 and height > 0 and width <= 2 * hw[1] and height <= 2 * hw[0]
    if not fits or (lengths < 0).any() or lengths.sum() != width * height:
        raise UserError(
            f"has a mask of {len(lengths)} runs that do not fill its box of {width}x{height} "
            "pixels; export it again."
        )
    inner = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
    mask = np.zeros(hw, bool)
    rows = slice(max(0, top), max(0, min(hw[0], top + height)))
    columns = slice(max(0, left), max(0, min(hw[1], left + width)))
    mask[rows, columns] = inner[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return mask


def from_coco_runs(counts: str | list[int], hw: tuple[int, int]) -> np.ndarray:
    """Returns bool `[H, W]` of COCO's run lengths: column by column, outside and inside in turn.

    pycocotools would write where it should not, if somebody made them up.

    Args:
      counts: the lengths; or a text with five bits of a number in each character, the lowest
        first, and from the third on its difference from the number before the last.
      hw: height and width.

    Raises:
      UserError: where the lengths do not fill the photograph.
    """
    lengths = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list):
        lengths = []
    if min(lengths, default=-1) < 0 or sum(lengths) != math.prod(hw):
        raise UserError(
            f"has a mask of {len(lengths)} runs that do not fill its {hw[1]}x{hw[0]} pixels; "
            "export it again."
        )
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(hw[::-1]).T


def _unpacked(text: str) -> list[int]:
    """Returns the lengths that COCO's packed text holds."""
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32 and shift < 64:
            continue
        if bits & 16:
            number -= 1 << shift
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = shift = 0
    return lengths


def brush_runs(mask: np.ndarray) -> list[int]:
    """Returns a mask as Label Studio keeps brush strokes: bytes of packed runs of RGBA values.

    Args:
      mask: bool `[H, W]`.
    """
    values, lengths = runs_of(mask.ravel())
    lengths = lengths * _CHANNELS
    counts = -(-lengths // _MOST)
    # A run that is too long is several.
    pieces = np.full(counts.sum(), _MOST)
    pieces[np.cumsum(counts) - 1] = lengths - (counts - 1) * _MOST
    values = np.repeat(np.where(values, 2**_VALUE_BITS - 1, 0), counts)
    head = [(mask.size * _CHANNELS, 32), (_VALUE_BITS - 1, 5)]
    head += [(bits - 1, 4) for bits in _LENGTH_BITS]
    bits = [_bits(np.array([number]), width)[0] for number, width in head]
    # A run of one value: 1, which size its length has, the length less 1, the value.
    size = len(_LENGTH_BITS) - 1
    fields = [(1, 1), (size, 2), (pieces - 1, _LENGTH_BITS[-1]), (values, _VALUE_BITS)]
    runs = np.concatenate(
        [_bits(np.broadcast_to(number, pieces.shape), width) for number, width in fields], axis=1
    )
    return np.packbits(np.concatenate([*bits, runs.ravel()])).tolist()


def _bits(numbers: np.ndarray, width: int) -> np.ndarray:
    """Returns uint8 `[N, width]`, the bits of numbers `[N]`, the highest first."""
    return (numbers[:, None] >> np.arange(width - 1, -1, -1) & 1).astype(np.uint8)


def from_brush_runs(data: list[int], hw: tuple[int, int]) -> np.ndarray:
    """Returns bool `[H, W]` of what `brush_runs` returns: where alpha is above half.

    Raises:
      UserError: where the data are cut off or of another size.
    """
    try:
        bits = np.unpackbits(np.array(data, np.uint8))
    except (ValueError, OverflowError, TypeError) as error:
        raise UserError("has a brush stroke that is no list of bytes; export it again.") from error
    at = 0

    def read(width: int) -> int:
        nonlocal at
        if at + width > len(bits):
            raise UserError("has a brush stroke that is cut off; export it again.")
        at += width
        return int(bits[at - width : at] @ (1 << np.arange(width - 1, -1, -1, dtype=np.int64)))

    count = read(32)
    if count != math.prod(hw) * _CHANNELS:
        raise UserError(
            f"has a brush stroke of {count} values, not of {hw[1]}x{hw[0]} pixels; export it again."
        )
    value_bits = read(5) + 1
    length_bits = [read(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.int64)
    start = 0
    while start < count:
        is_run = read(1)
        end = min(count, start + 1 + read(length_bits[read(2)]))
        if is_run:
            values[start:end] = read(value_bits)
        else:
            for each in range(start, end):
                values[each] = read(value_bits)
        start = end
    return values[_CHANNELS - 1 :: _CHANNELS].reshape(hw) >= 2 ** (value_bits - 1)
