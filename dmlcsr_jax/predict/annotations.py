"""Label maps in the formats of labelling and training tools, made of the files of label maps.

So a run that goes on, or one over photographs that were labelled before, ends in the same files. A
class is one annotation a photograph; the background is none.
"""

import importlib.util
import json
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np
from etils import epath

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.polygons import polygons_of
from dmlcsr_jax.data.run_lengths import brush_runs, cvat_runs
from dmlcsr_jax.errors import UserError

# Characters that no XML may hold.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class LabelledPhotograph(NamedTuple):
    """A photograph and its label map.

    Attributes:
      name: of the photograph, below the folder of the photographs.
      stem: what its outputs are called, with the folders above it.
      source: its file.
      label: uint8 `[H, W]`.
    """

    name: str
    stem: str
    source: str
    label: np.ndarray


# From labelled photographs, what the labels mean, and the outputs' folder to files and their parts.
Writer = Callable[
    [Iterable[LabelledPhotograph], LabelSet, epath.Path], Iterator[tuple[epath.Path, Iterable[str]]]
]


def require_packages(formats: Iterable[str]) -> None:
    """Checks that the packages of formats are there.

    Raises:
      UserError: where one is not.
    """
    if "coco" in formats and importlib.util.find_spec("pycocotools") is None:
        raise UserError("COCO needs the package pycocotools: pip install pycocotools.")


def masks_of(label: np.ndarray, label_set: LabelSet) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each class that is there, but the background, and its mask, bool `[H, W]`."""
    for value in label_set.shown_in(label):
        yield value, label == value


def coco_annotations(label: np.ndarray, label_set: LabelSet, image_id: int) -> list[dict[str, Any]]:
    """Returns COCO's annotations of a photograph, without ids of their own: run lengths.

    Args:
      label: uint8 `[H, W]`.
      label_set: meaning of the labels; a class's id is its label.
      image_id: of the photograph.

    Raises:
      UserError: as `require_packages`.
    """
    require_packages(["coco"])
    from pycocotools import mask as coco_mask

    annotations = []
    for value, mask in masks_of(label, label_set):
        runs = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        annotations.append(
            {
                "image_id": image_id,
                "category_id": value,
                "segmentation": {"size": list(mask.shape), "counts": runs["counts"].decode()},
                "area": int(mask.sum()),
                "bbox": coco_mask.toBbox(runs).tolist(),
                "iscrowd": 0,
            }
        )
    return annotations


def detections(label: np.ndarray, instances: np.ndarray, label_set: LabelSet) -> Any:
    """Returns `supervision.Detections` of a photograph, a class of each face.

    Args:
      label: uint8 `[H, W]`.
      instances: integers `[H, W]`, each pixel's face, 0 for none.
      label_set: meaning of the labels.

    Raises:
      UserError: where the package is missing.
    """
    # No extra: it brings a second OpenCV, with windows.
    if importlib.util.find_spec("supervision") is None:
        raise UserError(
            "the package supervision is missing: pip install supervision (it brings an OpenCV "
            "of its own)."
        )
    import supervision

    found = [
        (value, number, mask & (instances == number))
        for value, mask in masks_of(label, label_set)
        for number in np.unique(instances[mask])
    ]
    if not found:
        return supervision.Detections.empty()
    values, numbers, masks = map(np.array, zip(*found, strict=True))
    return supervision.Detections(
        xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
        mask=masks,
        class_id=values.astype(int),
        tracker_id=numbers.astype(int),
        data={"class_name": np.array(label_set.classes)[values]},
    )


def _coco(photographs, label_set: LabelSet, out: epath.Path):
    def parts() -> Iterator[str]:
        categories = [
            {"id": value, "name": name, "supercategory": "face"}
            for value, name in enumerate(label_set.classes)
            if value != label_set.background
        ]
        info = {"description": label_set.convention}
        yield f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(categories)},\n'
        yield '"annotations": ['
        images, number = [], 0
        for image_id, each in enumerate(photographs, 1):
            height, width = each.label.shape
            images.append(
                {"id": image_id, "file_name": each.name, "width": width, "height": height}
            )
            for annotation in coco_annotations(each.label, label_set, image_id):
                number += 1
                yield ("\n" if number == 1 else ",\n") + json.dumps({"id": number, **annotation})
        yield f'],\n"images": {json.dumps(images)}}}\n'

    yield out / "annotations" / "coco.json", parts()


def _cvat(photographs, label_set: LabelSet, out: epath.Path):
    def parts() -> Iterator[str]:
        yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        for number, each in enumerate(photographs):
            height, width = each.label.shape
            yield (
                f'<image id="{number}" name={_quoted(each.name)} width="{width}" '
                f'height="{height}">\n'
            )
            for value, mask in masks_of(each.label, label_set):
                lengths, (left, top, *size) = cvat_runs(mask)
                yield (
                    f'<mask label={_quoted(label_set.classes[value])} source="auto" occluded="0" '
                    f'rle="{", ".join(map(str, lengths))}" left="{left}" top="{top}" '
                    f'width="{size[0]}" height="{size[1]}" z_order="0"></mask>\n'
                )
            yield "</image>\n"
        yield "</annotations>\n"

    yield out / "annotations" / "cvat.xml", parts()


def _quoted(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text))


def _labelstudio(photographs, label_set: LabelSet, out: epath.Path):
    def parts() -> Iterator[str]:
        yield "["
        for number, each in enumerate(photographs):
            height, width = each.label.shape
            results = [
                {
                    "id": f"{number}-{value}",
                    "type": "brushlabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": width,
                    "original_height": height,
                    "value": {
                        "format": "rle",
                        "rle": brush_runs(mask),
                        "brushlabels": [label_set.classes[value]],
                    },
                }
                for value, mask in masks_of(each.label, label_set)
            ]
            place = f"/data/local-files/?d={urllib.parse.quote(each.name, errors='replace')}"
            task = {
                "data": {"image": place},
                "predictions": [{"model_version": "dmlcsr_jax", "result": results}],
            }
            yield ("\n" if number == 0 else ",\n") + json.dumps(task)
        yield "]\n"

    yield out / "annotations" / "labelstudio.json", parts()


def _labelme(photographs, label_set: LabelSet, out: epath.Path):
    for each in photographs:
        path = out / "labelme" / f"{each.stem}.json"
        height, width = each.label.shape
        shapes = [
            {
                "label": label_set.classes[value],
                "points": polygon.tolist(),
                "group_id": None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for value, mask in masks_of(each.label, label_set)
            for polygon in polygons_of(mask)
        ]
        image = each.source
        if "://" not in image and "://" not in os.fspath(path):
            image = os.path.relpath(image, path.parent)
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": image,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        yield path, [json.dumps(content) + "\n"]


def _yolo(photographs, label_set: LabelSet, out: epath.Path):
    values = [v for v in range(label_set.num_classes) if v != label_set.background]
    # JSON is YAML.
    names = {number: label_set.classes[value] for number, value in enumerate(values)}
    content = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in names.items())
    yield out / "yolo" / "data.yaml", [f"path: .\ntrain: images\nval: images\nnames:\n{content}"]
    for each in photographs:
        size = np.array(each.label.shape[::-1])
        lines = [
            f"{values.index(value)} "
            + " ".join(f"{number:.6f}" for number in ((polygon + 0.5) / size).ravel())
            for value, mask in masks_of(each.label, label_set)
            for polygon in polygons_of(mask)
        ]
        yield out / "yolo" / "labels" / f"{each.stem}.txt", [f"{line}\n" for line in lines]


FORMATS: Mapping[str, Writer] = {
    "coco": _coco,
    "yolo": _yolo,
    "labelme": _labelme,
    "cvat": _cvat,
    "labelstudio": _labelstudio,
}
