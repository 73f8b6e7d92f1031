"""Photographs and ArrayRecord files for tests of prediction, and what prediction writes."""

import cv2
import numpy as np
import PIL.Image
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from colour_network import picture


def save(path, image):
    """Writes a photograph, uint8 `[H, W, 3]` RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def read_label(path):
    """Returns the indices of a palette PNG, uint8 `[H, W]`."""
    with PIL.Image.open(path) as label:
        assert label.mode == "P"
        return np.asarray(label)


def files_below(folder):
    """Returns the names of the files in a folder and below, sorted."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def encoded(label):
    """Returns the PNG of a photograph in the colour of one label."""
    return cv2.imencode(".png", picture(np.full((2, 2), label))[..., ::-1])[1].tobytes()


def write_records(path, records):
    """Writes an ArrayRecord file."""
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def read_shards(out):
    """Returns the files in `labels/` of the folder `out`, and the records of them all."""
    files = sorted((out / "labels").iterdir())
    source = ArrayRecordDataSource([str(file) for file in files])
    return files, [source[i] for i in range(len(source))]
