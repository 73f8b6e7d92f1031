"""How many faces a detector finds, by their size and turn, and how long that takes.

    python -m benchmarks.detect_faces --root=FOLDER [--root=FOLDER ...]

takes the photographs of `FOLDER/val_list.txt` (a photograph and its label map a line), whose true
boxes are those of the parts of the face in the label maps, and mosaics of them with faces of one
size and turn. A face is found where a box's middle is within 0.4 of the face's longer side of the
face's, and its longer side half to twice the face's. `--detector=module:function` measures another
one: a function from uint8 `[H, W, 3]` RGB to boxes or `Face`s.
"""

import argparse
import importlib
import pathlib
import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import tabulate

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.decode import decode_image, decode_label
from dmlcsr_jax.errors import UserError, exit_on_user_error
from dmlcsr_jax.predict.faces import Detector, Face, default_detector, find

Example = tuple[np.ndarray, np.ndarray]
# What a face's box is about, whichever set names it.
PARTS = ("skin", "nose", "eye", "brow", "lip", "mouth", "glasses")
EARRING = "ear_r"


def examples(
    folder: pathlib.Path, label_set, limit: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields photographs, and the boxes of the largest face in their label maps."""
    face = [
        label
        for label, name in enumerate(label_set.classes)
        if name != EARRING and any(part in name for part in PARTS)
    ]
    lines = (folder / "val_list.txt").read_text().split()
    for image_name, label_name in list(zip(lines[::2], lines[1::2], strict=True))[:limit]:
        image = decode_image((folder / image_name).read_bytes(), image_name)
        label = decode_label((folder / label_name).read_bytes(), label_name, label_set)
        # Other people's faces are no part of a label map; specks of skin may be.
        _, _, stats, _ = cv2.connectedComponentsWithStats(np.isin(label, face).astype(np.uint8))
        x, y, width, height, _ = max(stats[1:], key=lambda stat: stat[cv2.CC_STAT_AREA])
        scale = image.shape[0] / label.shape[0]
        yield image, scale * np.array([x, y, x + width, y + height])


def mosaic(faces, size: int, degrees: float, side: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns one photograph of several, and the boxes of their faces, unturned, about the middles.

    Args:
      faces: photographs and boxes.
      size: longer side of each face, pixels.
      degrees: turn of each, one way and the other in turns.
      side: of the mosaic, pixels.
    """
    tile = 2 * size
    columns = max(1, side // tile)
    rows = -(-len(faces) // columns)
    canvas = np.full((rows * tile, columns * tile, 3), 127, np.uint8)
    boxes = []
    for count, (image, box) in enumerate(faces):
        scale = size / (box[2:] - box[:2]).max()
        if scale < 0.5:
            factor = 2 * scale
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            box, scale = box * factor, 0.5
        middle = (box[:2] + box[2:]) / 2
        matrix = cv2.getRotationMatrix2D(middle - 0.5, degrees * (-1) ** count, scale)
        matrix[:, 2] += size - middle
        view = cv2.warpAffine(image, matrix, (tile, tile), borderMode=cv2.BORDER_REPLICATE)
        y, x = count // columns * tile, count % columns * tile
        canvas[y : y + tile, x : x + tile] = view
        corner = np.array([x + size, y + size])
        half = scale * (box[2:] - box[:2]) / 2
        boxes.append(np.concatenate([corner - half, corner + half]))
    return canvas, boxes


def compare(found: Sequence[Face], boxes: Sequence[np.ndarray]) -> tuple[int, int]:
    """Returns how many of `boxes` are found, and how many finds are none of them or one again."""
    left = list(boxes)
    for face in sorted(found, key=lambda face: -(face.score or 0)):
        edges = np.array(face.box)
        for number, box in enumerate(left):
            longer = (box[2:] - box[:2]).max()
            distance = np.hypot(*((edges[:2] + edges[2:]) - (box[:2] + box[2:]))) / 2
            if distance < 0.4 * longer and 0.5 < (edges[2:] - edges[:2]).max() / longer < 2:
                del left[number]
                break
    hits = len(boxes) - len(left)
    return hits, len(found) - hits


def row(name: str, detector: Detector, pictures) -> list:
    """Returns a row of the table: name, faces, found %, other finds, ms of processor a picture."""
    faces = hits = others = 0
    seconds = -time.process_time()
    for image, boxes in pictures:
        hit, other = compare(find(detector, image, name), boxes)
        faces, hits, others = faces + len(boxes), hits + hit, others + other
    seconds += time.process_time()
    return [name, faces, 100 * hits / faces, others, 1e3 * seconds / len(pictures)]


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Prints a row for each folder's photographs, and for mosaics of every size and turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", "--source", action="append", required=True, type=pathlib.Path)
    parser.add_argument("--label_set", default="celebamask_hq")
    parser.add_argument("--detector", metavar="MODULE:FUNCTION")
    parser.add_argument("--limit", type=int, default=100, help="photographs of each folder")
    parser.add_argument("--sizes", type=int, nargs="+", default=[24, 48, 96, 200, 400])
    parser.add_argument("--turns", type=float, nargs="+", default=[0, 30, 60])
    parser.add_argument("--faces", type=int, default=40, help="in the mosaics of a size and turn")
    parser.add_argument("--side", type=int, default=960, help="of a mosaic, pixels")
    arguments = parser.parse_args(argv)
    detector = default_detector()
    if arguments.detector:
        module, _, function = arguments.detector.partition(":")
        detector = getattr(importlib.import_module(module), function)
    if detector is None:
        raise UserError("no detector is installed; install the extra 'faces' or give --detector.")
    # One processor, as a share of a folder's photographs gets.
    cv2.setNumThreads(1)
    label_set = label_sets.get(arguments.label_set)
    rows, faces = [], []
    for folder in arguments.root:
        found = list(examples(folder, label_set, arguments.limit))
        rows.append(row(folder.name, detector, [(image, [box]) for image, box in found]))
        faces += found
    for degrees in arguments.turns:
        for size in arguments.sizes:
            each = max(1, arguments.side // (2 * size)) ** 2
            chosen = faces[: arguments.faces]
            parts = [chosen[i : i + each] for i in range(0, len(chosen), each)]
            pictures = [mosaic(part, size, degrees, arguments.side) for part in parts]
            rows.append(row(f"{size} pixels, turned {degrees:g}", detector, pictures))
    headers = ["", "faces", "found %", "other finds", "ms"]
    print(tabulate.tabulate(rows, headers, floatfmt=("", ".0f", ".1f", ".0f", ".1f")))


if __name__ == "__main__":
    main()
