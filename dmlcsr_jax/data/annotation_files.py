"""What labelling tools' files say of photographs: COCO, labelme, CVAT, Label Studio.

Each reader gives, for each photograph, its name, its size, and its shapes in the file's order: a
class's name and a function that draws its mask. Files may be anybody's: masks are drawn when they
are asked for, never larger than the photograph.
"""

import base64
import binascii
import functools
import importlib.util
import json
import pathlib
import urllib.parse
import xml.etree.ElementTree
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from dmlcsr_jax.data.decode import decode_image, read_bytes
from dmlcsr_jax.data.limits import DEFAULT
from dmlcsr_jax.data.polygons import mask_of
from dmlcsr_jax.data.run_lengths import from_brush_runs, from_coco_runs, from_cvat_runs
from dmlcsr_jax.errors import UserError

# From height and width to bool `[H, W]`.
Draw = Callable[[tuple[int, int]], np.ndarray]


class Annotated(NamedTuple):
    """What a file says of a photograph.

    Attributes:
      image: its name, as the file has it.
      hw: height and width.
      shapes: class and mask of each shape; later ones lie on earlier ones.
    """

    image: str
    hw: tuple[int, int]
    shapes: list[tuple[str, Draw]]


def read_coco(path: pathlib.Path) -> Iterator[Annotated]:
    """Yields the photographs of a COCO file: run lengths, packed or not, and polygons."""
    content = _json(path, dict)
    names = {each["id"]: str(each["name"]) for each in content["categories"]}
    by_image: dict[Any, list] = {image["id"]: [] for image in content["images"]}
    for each in content["annotations"]:
        draw = functools.partial(_coco_mask, each["segmentation"])
        by_image[each["image_id"]].append((names[each["category_id"]], draw))
    for image in content["images"]:
        yield Annotated(str(image["file_name"]), _size(image), by_image[image["id"]])


def _coco_mask(segmentation: Any, hw: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, dict):
        return from_coco_runs(segmentation["counts"], hw)
    return _of_corners(segmentation, hw)


def read_labelme(path: pathlib.Path) -> Iterator[Annotated]:
    """Yields the photograph of a labelme file: polygons, rectangles and masks."""
    content = _json(path, dict)
    shapes = []
    for shape in content["shapes"]:
        kind, points = shape.get("shape_type", "polygon"), np.array(shape["points"], np.float64)
        if kind == "polygon":
            draw = functools.partial(mask_of, [points])
        elif kind == "rectangle":
            draw = functools.partial(mask_of, [_rectangle(points)])
        elif kind == "mask":
            draw = functools.partial(_labelme_mask, shape["mask"], points)
        else:
            raise UserError(
                f"{path} has a shape of the kind {kind!r}; there are polygon, rectangle and mask."
            )
        shapes.append((str(shape["label"]), draw))
    hw = int(content["imageHeight"]), int(content["imageWidth"])
    yield Annotated(str(content["imagePath"]), _possible(hw), shapes)


def _rectangle(points: np.ndarray) -> np.ndarray:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _labelme_mask(data: str, points: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    picture = decode_image(base64.b64decode(data), "its mask")[..., 0] > 0
    left, top = np.rint(points.min(axis=0)).astype(int)
    mask = np.zeros(hw, bool)
    if left < 0 or top < 0:
        raise UserError("has a mask that begins outside its photograph; export it again.")
    inner = mask[top : top + picture.shape[0], left : left + picture.shape[1]]
    inner[:] = picture[: inner.shape[0], : inner.shape[1]]
    return mask


def read_cvat(path: pathlib.Path) -> Iterator[Annotated]:
    """Yields the photographs of a file "CVAT for images 1.1": masks, polygons and boxes."""
    text = read_bytes(path).decode("utf-8-sig")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{path} declares entities, which no CVAT file does; export it again.")
    for image in xml.etree.ElementTree.fromstring(text).iter("image"):
        drawn = []
        for shape in image:
            if draw := _cvat_mask(shape):
                drawn.append((int(shape.get("z_order", "0")), shape.attrib["label"], draw))
        drawn.sort(key=lambda each: each[0])
        yield Annotated(image.attrib["name"], _size(image.attrib), [each[1:] for each in drawn])


def _cvat_mask(shape: xml.etree.ElementTree.Element) -> Draw | None:
    if shape.tag == "mask":
        box = tuple(int(shape.attrib[key]) for key in ("left", "top", "width", "height"))
        lengths = np.array([int(length) for length in shape.attrib["rle"].split(",")])
        return functools.partial(from_cvat_runs, lengths, box)
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
        return functools.partial(_of_corners, [np.array(pairs, np.float64)])
    if shape.tag == "box":
        sides = [float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr")]
        return functools.partial(_of_corners, [_rectangle(np.reshape(sides, (2, 2)))])
    return None


def read_labelstudio(path: pathlib.Path) -> Iterator[Annotated]:
    """Yields the photographs of Label Studio's JSON: the last annotation, else the predictions."""
    for task in _json(path, list):
        done = [each for each in task.get("annotations", ()) if not each.get("was_cancelled")]
        chosen = done or task.get("predictions", ())
        shapes, hw = [], None
        for result in chosen[-1]["result"] if chosen else ():
            value = result["value"]
            hw = _possible((int(result["original_height"]), int(result["original_width"])))
            if "brushlabels" in value:
                draw = functools.partial(from_brush_runs, value["rle"])
                shapes.append((str(value["brushlabels"][0]), draw))
            elif "polygonlabels" in value:
                draw = functools.partial(_of_shares, np.array(value["points"], np.float64) / 100)
                shapes.append((str(value["polygonlabels"][0]), draw))
        if hw:
            yield Annotated(_labelstudio_name(task["data"]), hw, shapes)


def _of_shares(points: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    return _of_corners([points * hw[::-1]], hw)


def _labelstudio_name(data: Mapping[str, Any]) -> str:
    address = str(data.get("image") or next(iter(data.values())))
    _, found, name = address.partition("?d=")
    return urllib.parse.unquote(name if found else address.rpartition("/")[2])


READERS = {
    "coco": read_coco,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "labelstudio": read_labelstudio,
}


def read_file(kind: str, path: pathlib.Path) -> list[Annotated]:
    """Returns what a file says.

    Raises:
      UserError: where it cannot be read, or is not of that kind.
    """
    try:
        return list(READERS[kind](path))
    except (
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
        xml.etree.ElementTree.ParseError,
    ) as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no file of {kind}: {said}; export it again.") from error


def draw(shape: Draw, hw: tuple[int, int], name: str) -> np.ndarray:
    """Returns a shape's mask, bool `[H, W]`.

    Raises:
      UserError: where it is damaged; begins with `name`.
    """
    try:
        return shape(hw)
    except UserError as error:
        raise UserError(f"{name} {error}") from error
    except (KeyError, ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise UserError(f"{name} has a shape that cannot be drawn: {error}.") from error


def _json(path: pathlib.Path, kind: type) -> Any:
    content = json.loads(read_bytes(path).decode("utf-8-sig"))
    if not isinstance(content, kind):
        raise TypeError(f"it must hold a {kind.__name__}, not a {type(content).__name__}")
    return content


def _size(attributes: Mapping[str, Any]) -> tuple[int, int]:
    return _possible((int(attributes["height"]), int(attributes["width"])))


def _possible(hw: tuple[int, int]) -> tuple[int, int]:
    if min(hw) < 1 or hw[0] * hw[1] > DEFAULT.pixels:
        raise ValueError(f"a photograph of {hw[1]}x{hw[0]} pixels")
    return hw


def _of_corners(polygons: Iterable[Any], hw: tuple[int, int]) -> np.ndarray:
    """Returns the mask of polygons whose points count from the first pixel's corner, by COCO's way.

    Raises:
      UserError: where the package pycocotools is missing.
    """
    if importlib.util.find_spec("pycocotools") is None:
        raise UserError("needs the package pycocotools for polygons: pip install pycocotools.")
    from pycocotools import mask as coco_mask

    mask = np.zeros(hw, bool)
    for polygon in polygons:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        if len(points) < 3 or not np.isfinite(points).all():
            raise UserError(
                f"has a polygon of {len(points)} points or of no numbers; draw it anew."
            )
        # It goes along each edge a pixel at a time.
        points = np.clip(points, -1, np.add(hw[::-1], 1))
        runs = coco_mask.frPyObjects([points.ravel().tolist()], *hw)
        mask |= coco_mask.decode(runs)[..., 0].astype(bool)
    return mask
