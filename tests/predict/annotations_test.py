"""Labels for other tools: read back by decoders of the formats' own, and by the tools' libraries.

Those that are not among the extras (supervision, label-studio-converter) are asked where they are
installed.
"""

import json
import os
import sys
import xml.etree.ElementTree

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import yaml
from colour_network import LABEL_SET, picture
from drawn_masks import blobs, brush_decoded, cvat_decoded
from etils import epath
from prediction_files import read_label, save

from dmlcsr_jax.data.polygons import mask_of
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import annotations
from dmlcsr_jax.predict.annotations import FORMATS, LabelledPhotograph
from dmlcsr_jax.predict.faces import Face
from dmlcsr_jax.predict.result import Result

CELLS = [[1, 7, 7, 10], [5, 8, 9, 10], [9, 9, 1, 0]]
BACKGROUND = LABEL_SET.background


def label_map(seed):
    label = np.zeros((60, 80), np.uint8)
    for value in (1, 5, 10):
        label[blobs(seed + value)] = value
    return label


@pytest.fixture
def labelled(tmp_path):
    names = ("a b.jpg", 'sub/"c"&d.png')
    return [
        LabelledPhotograph(
            name, os.path.splitext(name)[0], str(tmp_path / "photos" / name), label_map(seed)
        )
        for seed, name in enumerate(names)
    ]


def write(name, labelled, out):
    files = {}
    for path, parts in FORMATS[name](labelled, LABEL_SET, epath.Path(out)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(parts))
        files[os.path.relpath(path, out)] = path
    return files


def painted(masks, hw=(60, 80)):
    label = np.full(hw, BACKGROUND, np.uint8)
    for name, mask in masks:
        label[mask] = LABEL_SET.classes.index(name)
    return label


def test_coco_is_read_by_its_own_library(labelled, tmp_path):
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    from pycocotools.coco import COCO

    files = write("coco", labelled, tmp_path)
    coco = COCO(str(files["annotations/coco.json"]))
    names = {each["id"]: each["name"] for each in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == [name for name in LABEL_SET.classes if name != "background"]
    images = coco.loadImgs(coco.getImgIds())
    assert [image["file_name"] for image in images] == [each.name for each in labelled]
    for image, each in zip(images, labelled, strict=True):
        found = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        masks = [(names[a["category_id"]], coco.annToMask(a).astype(bool)) for a in found]
        np.testing.assert_array_equal(painted(masks), each.label)
        for annotation, (_, mask) in zip(found, masks, strict=True):
            assert annotation["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            left, top = columns.min(), rows.min()
            box = [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
            assert annotation["bbox"] == box


def test_cvat_is_its_xml(labelled, tmp_path):
    files = write("cvat", labelled, tmp_path)
    root = xml.etree.ElementTree.parse(files["annotations/cvat.xml"]).getroot()
    assert root.find("version").text == "1.1"
    images = root.findall("image")
    assert [image.get("name") for image in images] == [each.name for each in labelled]
    for image, each in zip(images, labelled, strict=True):
        assert (image.get("width"), image.get("height")) == ("80", "60")
        masks = []
        for mask in image.findall("mask"):
            box = [int(mask.get(key)) for key in ("left", "top", "width", "height")]
            lengths = [int(length) for length in mask.get("rle").split(",")]
            masks.append((mask.get("label"), cvat_decoded(lengths, box, (60, 80))))
        np.testing.assert_array_equal(painted(masks), each.label)


def test_label_studio_s_tasks_have_their_strokes(labelled, tmp_path):
    files = write("labelstudio", labelled, tmp_path)
    tasks = json.loads(files["annotations/labelstudio.json"].read_text())
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=a%20b.jpg"
    decoders = [brush_decoded]
    try:
        from label_studio_converter.brush import decode_rle

        decoders.append(decode_rle)
    except ImportError:
        pass
    for task, each in zip(tasks, labelled, strict=True):
        for decode in decoders:
            masks = []
            for result in task["predictions"][0]["result"]:
                assert (result["original_width"], result["original_height"]) == (80, 60)
                values = np.reshape(decode(result["value"]["rle"]), (60, 80, 4))
                masks.append((result["value"]["brushlabels"][0], values[..., 3] > 0))
            np.testing.assert_array_equal(painted(masks), each.label)


def test_labelme_s_polygons_lie_on_the_parts(labelled, tmp_path):
    files = write("labelme", labelled, tmp_path)
    assert list(files) == ["labelme/a b.json", 'labelme/sub/"c"&d.json']
    for path, each in zip(files.values(), labelled, strict=True):
        content = json.loads(path.read_text())
        assert os.path.normpath(path.parent / content["imagePath"]) == each.source
        assert (content["imageWidth"], content["imageHeight"]) == (80, 60)
        for value in (1, 5, 10):
            name = LABEL_SET.classes[value]
            points = [shape["points"] for shape in content["shapes"] if shape["label"] == name]
            back, mask = mask_of(points, (60, 80)), each.label == value
            outside = [cv2.distanceTransform(np.uint8(m), cv2.DIST_L2, 5) for m in (~mask, mask)]
            assert np.maximum(*outside)[back != mask].max(initial=0) < 1.5


def test_pillow_draws_labelme_s_polygons_as_labelme_does(labelled, tmp_path):
    """Labelme itself needs a screen; it draws each polygon by Pillow, its outline too."""
    path = next(iter(write("labelme", labelled, tmp_path).values()))
    for each in json.loads(path.read_text())["shapes"]:
        drawn = PIL.Image.new("L", (80, 60))
        points = [tuple(point) for point in each["points"]]
        PIL.ImageDraw.Draw(drawn).polygon(points, outline=1, fill=1)
        mask = mask_of([each["points"]], (60, 80))
        depth = cv2.distanceTransform(np.uint8(mask), cv2.DIST_L2, 5)
        outside = cv2.distanceTransform(np.uint8(~mask), cv2.DIST_L2, 5)
        assert np.maximum(depth, outside)[np.asarray(drawn) != mask].max(initial=0) <= 1


def test_yolo_s_polygons_are_shares_of_the_sides(labelled, tmp_path):
    files = write("yolo", labelled, tmp_path)
    names = yaml.safe_load(files.pop("yolo/data.yaml").read_text())["names"]
    assert list(names.values()) == [name for name in LABEL_SET.classes if name != "background"]
    for path, each in zip(files.values(), labelled, strict=True):
        masks = {}
        for line in path.read_text().splitlines():
            number, *shares = line.split()
            # As its trainer reads them: times the sides, cut to whole numbers.
            points = (np.reshape([float(s) for s in shares], (-1, 2)) * (80, 60)).astype(int)
            masks.setdefault(names[int(number)], []).append(points)
        for name, points in masks.items():
            mask = each.label == LABEL_SET.classes.index(name)
            back = mask_of(points, (60, 80))
            outside = [cv2.distanceTransform(np.uint8(m), cv2.DIST_L2, 5) for m in (~mask, mask)]
            assert np.maximum(*outside)[back != mask].max(initial=0) < 1.5


def test_the_command_writes_all_and_those_of_earlier_runs_too(run, tmp_path):
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    out = tmp_path / "out"
    for name in ("a", "b"):
        save(tmp_path / "photos" / f"{name}.png", picture(CELLS))
        arguments = ("--format=coco,labelme,yolo,cvat,labelstudio", "--review=1", "--no_overlay")
        status, said, errors = run(tmp_path / "photos", *arguments, out=out)
        assert status == 0, errors
        assert "worth a look first" in said
    coco = json.loads((out / "annotations" / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png"]
    label = read_label(out / "labels" / "a.png")
    areas = {a["category_id"]: a["area"] for a in coco["annotations"] if a["image_id"] == 1}
    assert areas == {v: int((label == v).sum()) for v in np.unique(label) if v != BACKGROUND}
    assert {path.name for path in (out / "labelme").iterdir()} == {"a.json", "b.json"}
    assert {path.name for path in (out / "yolo" / "labels").iterdir()} == {"a.txt", "b.txt"}
    assert len((out / "review.txt").read_text().splitlines()) == 1
    # What was written is no photograph of the next run.
    assert run(tmp_path, *arguments, out=tmp_path / "other")[0] == 0
    assert not (tmp_path / "other" / "failed.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format=coca"], "--format: there is no 'coca'; there are coco, yolo, labelme, cvat"),
        (["--format=yolo", "--shards"], "--format and --review are of files"),
        (
            ["--format=yolo", "--process_index=0", "--process_count=2"],
            "--format and --review look at all label maps",
        ),
        (["--review=-1"], "--review is -1"),
    ],
)
def test_wrong_options_end_in_one_sentence(refused, arguments, message):
    refused(arguments, message)


def test_without_their_packages_coco_and_supervision_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install pycocotools"):
        annotations.require_packages(["coco"])
    with pytest.raises(UserError, match="pip install supervision"):
        result_of_two_faces().to_supervision()


def result_of_two_faces():
    label = np.kron(np.array(CELLS, np.uint8), np.ones((3, 5), np.uint8))
    owner = np.where(np.arange(20) < 10, 1, 2)[None].repeat(9, 0).astype(np.uint8)
    faces = [Face((0, 0, 8, 9)), Face((10, 0, 20, 9))]
    return Result(np.zeros((9, 20, 3), np.uint8), label, owner, faces, LABEL_SET)


def test_a_result_gives_coco_s_annotations():
    coco_mask = pytest.importorskip("pycocotools.mask", reason="needs the extra formats")
    result = result_of_two_faces()
    for annotation in result.to_coco(image_id=7):
        assert annotation["image_id"] == 7
        mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
        np.testing.assert_array_equal(mask, result.label == annotation["category_id"])


def test_a_result_gives_supervision_s_detections():
    pytest.importorskip("supervision", reason="needs the package supervision")
    result = result_of_two_faces()
    detections = result.to_supervision()
    for box, mask, _, value, number, data in detections:
        expected = (result.label == value) & (result.instances == number)
        np.testing.assert_array_equal(mask, expected)
        rows, columns = np.nonzero(expected)
        assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert data["class_name"] == LABEL_SET.classes[value]
    assert len(detections) == len(
        {(v, n) for v, n in zip(result.label.flat, result.instances.flat, strict=True) if v}
    )
