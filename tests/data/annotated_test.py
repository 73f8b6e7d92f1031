"""Sources of label maps from labelling tools' files."""

import base64
import json

import cv2
import numpy as np
import PIL.Image
import pytest
from etils import epath

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.annotated import AnnotatedSource
from dmlcsr_jax.data.sources import open_source
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.annotations import FORMATS, LabelledPhotograph

HELEN = label_sets.get("helen")
HW = (40, 56)
NAMES = [f"p{number}" for number in range(12)]


def label_map(seed):
    noise = np.random.default_rng(seed).random((len(HELEN.classes), *HW)).astype(np.float32)
    return np.argmax([cv2.GaussianBlur(each, (0, 0), 3) for each in noise], axis=0).astype(np.uint8)


LABELS = {name: label_map(seed) for seed, name in enumerate(NAMES)}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for name, label in LABELS.items():
        image = np.repeat(label[..., None] * 20, 3, axis=2)
        PIL.Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def write(kind, root, names=NAMES):
    labelled = [
        LabelledPhotograph(f"{n}.png", n, str(root / "images" / f"{n}.png"), LABELS[n])
        for n in names
    ]
    for path, parts in FORMATS[kind](labelled, HELEN, epath.Path(root)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(parts))


def open_all(kind, root, **options):
    return [AnnotatedSource(kind, root, split, HELEN, **options) for split in ("train", "val")]


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelstudio"])
def test_what_prediction_writes_is_read_to_the_pixel(kind, root):
    if kind == "coco":
        pytest.importorskip("pycocotools", reason="needs the extra formats")
    write(kind, root)
    sources = open_all(kind, root)
    found = {}
    for source in sources:
        for index in range(len(source)):
            example = source[index]
            found[example["name"]] = example["label"]
            np.testing.assert_array_equal(example["image"][..., 0], 20 * LABELS[example["name"]])
            np.testing.assert_array_equal(source.label(index), example["label"])
    assert sorted(found) == sorted(NAMES)
    assert len(sources[1]) >= 1
    for name, label in found.items():
        np.testing.assert_array_equal(label, LABELS[name])


def test_labelme_s_polygons_are_read_within_half_a_pixel(root):
    write("labelme", root)
    for source in open_all("labelme", root):
        for index in range(len(source)):
            label, expected = source.label(index), LABELS[source[index]["name"]]
            wrong = label != expected
            near = cv2.dilate(expected, np.ones((3, 3))) != cv2.erode(expected, np.ones((3, 3)))
            assert not (wrong & ~near).any()
            assert wrong.mean() < 0.15


def only(kind, root, **options):
    """The label map of a source of one photograph."""
    for source in open_all(kind, root, **options):
        if len(source):
            return source.label(0)
    raise AssertionError


def square(top, left, side):
    mask = np.zeros(HW, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_coco_s_polygons_and_unpacked_runs(root):
    coco_mask = pytest.importorskip("pycocotools.mask", reason="needs the extra formats")
    circle = np.stack(
        [28 + 11 * np.cos(t := np.linspace(0, 2 * np.pi, 50)), 20 + 9.3 * np.sin(t)], axis=1
    )
    runs = [[2 * HW[0] + 3, 5, HW[0] * HW[1] - 2 * HW[0] - 8]]
    content = {
        "images": [{"id": 5, "file_name": "sub/p1.png", "height": HW[0], "width": HW[1]}],
        "categories": [{"id": 40, "name": "hair"}, {"id": 41, "name": "nose"}],
        "annotations": [
            {"image_id": 5, "category_id": 40, "segmentation": [circle.ravel().tolist()]},
            {"image_id": 5, "category_id": 41, "segmentation": {"size": HW, "counts": runs[0]}},
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "coco.json").write_text(json.dumps(content))
    expected = np.zeros(HW, np.uint8)
    packed = coco_mask.frPyObjects([circle.ravel().tolist()], *HW)
    expected[coco_mask.decode(packed)[..., 0] > 0] = HELEN.classes.index("hair")
    expected[3:8, 2] = HELEN.classes.index("nose")
    np.testing.assert_array_equal(only("coco", root), expected)
    blank = only("coco", root, unannotated="ignore")
    np.testing.assert_array_equal(blank, np.where(expected == 0, 255, expected))


def test_packed_runs_are_pycocotools(root):
    coco_mask = pytest.importorskip("pycocotools.mask", reason="needs the extra formats")
    from dmlcsr_jax.data.run_lengths import from_coco_runs

    for seed in range(20):
        shape = np.random.default_rng(seed).integers(1, 400, 2)
        mask = np.random.default_rng(seed).random(shape) < seed / 19
        runs = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
        np.testing.assert_array_equal(from_coco_runs(runs, mask.shape), mask)


def test_cvat_s_boxes_and_polygons_lie_by_their_order(root):
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    (root / "cvat.xml").write_text(
        f'<annotations><image id="0" name="p2.png" width="{HW[1]}" height="{HW[0]}">'
        '<box label="nose" z_order="2" xtl="10" ytl="5" xbr="20" ybr="15"/>'
        '<polygon label="hair" z_order="1" points="5,2;25,2;25,22;5,22"/>'
        '<tag label="nose"/></image></annotations>'
    )
    expected = np.zeros(HW, np.uint8)
    expected[square(2, 5, 20)] = HELEN.classes.index("hair")
    expected[square(5, 10, 10)] = HELEN.classes.index("nose")
    np.testing.assert_array_equal(only("cvat", root), expected)


def test_label_studio_s_annotation_comes_before_predictions(root):
    pytest.importorskip("pycocotools", reason="needs the extra formats")

    def polygon(name, left, right):
        points = [[left, 0], [right, 0], [right, 100], [left, 100]]
        size = {"original_width": HW[1], "original_height": HW[0]}
        return {**size, "value": {"polygonlabels": [name], "points": points}}

    task = {
        "data": {"image": "/data/upload/1/p3.png"},
        "predictions": [{"result": [polygon("nose", 0, 100)]}],
        "annotations": [
            {"result": [polygon("hair", 0, 50)]},
            {"result": [polygon("nose", 0, 100)], "was_cancelled": True},
        ],
    }
    (root / "labelstudio.json").write_text(json.dumps([task]))
    expected = np.zeros(HW, np.uint8)
    expected[:, : HW[1] // 2] = HELEN.classes.index("hair")
    np.testing.assert_array_equal(only("labelstudio", root), expected)


def test_labelme_s_rectangles_and_masks(root):
    small = cv2.imencode(".png", np.full((4, 6), 255, np.uint8))[1].tobytes()
    shapes = [
        {"label": "hair", "shape_type": "rectangle", "points": [[20, 12], [3, 2]]},
        {
            "label": "nose",
            "shape_type": "mask",
            "points": [[8, 5], [13, 8]],
            "mask": base64.b64encode(small).decode(),
        },
    ]
    content = {"imagePath": "..\\images\\p4.png", "imageHeight": HW[0], "imageWidth": HW[1]}
    (root / "images" / "any.json").write_text(json.dumps({**content, "shapes": shapes}))
    expected = np.zeros(HW, np.uint8)
    expected[2:13, 3:21] = HELEN.classes.index("hair")
    expected[5:9, 8:14] = HELEN.classes.index("nose")
    np.testing.assert_array_equal(only("labelme", root), expected)


def test_a_mask_a_part_as_celebamask_hq_has_them(tmp_path):
    celeba = label_sets.get("celebamask_hq")
    (tmp_path / "images").mkdir()
    PIL.Image.new("RGB", HW[::-1]).save(tmp_path / "images" / "7.jpg")
    parts = {"hair": square(0, 0, 20), "l_eye": square(15, 15, 10), "skin": square(10, 10, 25)}
    for name, mask in parts.items():
        path = tmp_path / "masks" / "0" / f"00007_{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.uint8(mask) * 255).save(path)
    expected = np.zeros(HW, np.uint8)
    for name in ("skin", "l_eye", "hair"):  # By their labels.
        expected[parts[name]] = celeba.classes.index(name)
    source = AnnotatedSource("masks", tmp_path, "train", celeba)
    np.testing.assert_array_equal(source[0]["label"], expected)


def test_lists_say_which_photographs_are_of_a_split(root):
    write("cvat", root, NAMES[:5])
    (root / "train_list.txt").write_text("images/p1.png\np3\n")
    source = AnnotatedSource("cvat", root, "train", HELEN)
    assert [source[index]["name"] for index in range(2)] == ["p1", "p3"]
    (root / "train_list.txt").write_text("p1\np9\n")
    with pytest.raises(UserError, match=r"train_list.txt names p9, of which there is no"):
        AnnotatedSource("cvat", root, "train", HELEN)


def test_a_config_opens_them(root):
    from dmlcsr_jax.configs import celebamask_hq_tiny

    from dmlcsr_jax.config import validate

    write("labelstudio", root)
    (root / "label_names.txt").write_text("\n".join(HELEN.classes) + "\n")
    config = celebamask_hq_tiny.get_config()
    config.data.source, config.data.root = "labelstudio", str(root)
    validate(config)
    source = open_source(config, "train", HELEN)
    np.testing.assert_array_equal(source[0]["label"], LABELS[source[0]["name"]])
    config.data.unannotated = "skin"
    with pytest.raises(UserError, match=r"data.unannotated is 'skin'; it must be"):
        validate(config)


def cvat(shape, size=f'width="{HW[1]}" height="{HW[0]}"', name="p0.png"):
    return f'<annotations><image name="{name}" {size}>{shape}</image></annotations>'


@pytest.mark.parametrize(
    ("kind", "file", "text", "message"),
    [
        ("cvat", "cvat.xml", "<annotations", "cvat.xml is no file of cvat"),
        ("cvat", "cvat.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a/>', "declares entities"),
        ("cvat", "cvat.xml", cvat("", 'width="99999" height="99999"'), "99999x99999 pixels"),
        ("cvat", "cvat.xml", cvat('<box label="hairs" xtl="1" ytl="1" xbr="2" ybr="2"/>'), "hairs"),
        ("cvat", "cvat.xml", cvat("", name="other.png"), "name none of the 12 photographs"),
        ("cvat", "nothing.xml", "", "there is not cvat.xml or annotations/cvat.xml in"),
        ("coco", "coco.json", "[]", "coco.json is no file of coco"),
        ("coco", "coco.json", "[" * 100_000, "coco.json is no file of coco"),
        ("coco", "coco.json", '{"images": []}', "KeyError: 'categories'"),
        ("labelme", "labelme/a.json", '{"shapes": [{"shape_type": "dot", "points": 1}]}', "'dot'"),
        ("labelstudio", "labelstudio.json", "{}", "must hold a list, not a dict"),
        ("masks", "masks/p0_beard.png", "", "p0_beard.png ends in no class of 'helen'"),
    ],
)
def test_bad_files_are_said_in_a_sentence(root, kind, file, text, message):
    path = root / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        AnnotatedSource(kind, root, "train", HELEN)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"counts": "000PYZ"},
        {"counts": [2**40]},
        {"counts": [-5, 5 + HW[0] * HW[1]]},
        {"counts": 3.5},
        [[1, 2, 3]],
        [[float("nan")] * 6],
        [["a"] * 6],
        {},
    ],
)
def test_impossible_shapes_are_said_when_they_are_drawn(root, segmentation):
    pytest.importorskip("pycocotools", reason="needs the extra formats")
    content = {
        "images": [{"id": 1, "file_name": "p0.png", "height": HW[0], "width": HW[1]}],
        "categories": [{"id": 1, "name": "hair"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": segmentation}],
    }
    (root / "coco.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"coco.json: p0.png "):
        only("coco", root)
