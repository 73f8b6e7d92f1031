"""Drawn masks, and decoders of labelling tools' run lengths by their descriptions."""

import cv2
import numpy as np


def blobs(seed, hw=(60, 80)):
    """A mask with pieces, holes, and pieces in holes, down to single pixels."""
    noise = np.random.default_rng(seed).random(hw).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 0.8 + seed % 3) > 0.5


def cvat_decoded(lengths, box, hw):
    """CVAT's description: runs of outside and inside in turn, row by row in the box."""
    flat, inside = [], False
    for length in lengths:
        flat += [inside] * length
        inside = not inside
    mask = np.zeros(hw, bool)
    left, top, width, height = box
    mask[top : top + height, left : left + width] = np.reshape(flat, (height, width))
    return mask


def brush_decoded(data):
    """Label Studio's description, a bit at a time."""
    text = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def read(width):
        nonlocal at
        at += width
        return int(text[at - width : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < count:
        is_run, length = read(1), read(sizes[read(2)]) + 1
        if is_run:
            values += [read(word)] * length
        else:
            values += [read(word) for _ in range(length)]
    return np.array(values)
