"""One call: what a parser takes, and what its result gives."""

import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys

import colour_network
import numpy as np
import PIL.Image
import pytest
from colour_network import COLOURS, LABEL_SET, ColourNetwork, interior, picture, truth
from prediction_files import read_label, save

from dmlcsr_jax import visualization
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import faces as faces_lib
from dmlcsr_jax.predict import libfacedetection_private
from dmlcsr_jax.predict.face_parser import FaceParser
from dmlcsr_jax.predict.faces import Face

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]
INSIDE = interior(CELLS)


@pytest.fixture(scope="module")
def parser():
    with pytest.MonkeyPatch.context() as patch:
        colour_network.install(patch.setattr)
        yield FaceParser("any", batch_size=4, faces="whole", wide_margin=0)


def assert_parsed(result):
    np.testing.assert_array_equal(result.label[INSIDE], truth(CELLS)[INSIDE])


def test_paths_pictures_and_arrays_are_photographs(parser, tmp_path):
    image = picture(CELLS)
    save(tmp_path / "a.png", image)
    PIL.Image.fromarray(image).save(tmp_path / "b.webp", lossless=True)
    kinds = [image, tmp_path / "a.png", str(tmp_path / "b.webp"), PIL.Image.fromarray(image)]
    for result in [*parser(kinds), *map(parser, kinds)]:
        assert_parsed(result)
        assert result.label.dtype == np.uint8
        assert result.names == LABEL_SET.classes
    assert parser(tmp_path / "a.png").name == str(tmp_path / "a.png")
    assert isinstance(parser((image,)), list)


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "1", "L", "I;16", "CMYK"])
def test_pictures_of_every_mode(parser, mode):
    grey = np.kron([[0, 255]], np.ones((16, 16), np.uint8)).astype(np.uint8)
    image = PIL.Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    if mode == "I;16":
        image = PIL.Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    if mode == "P":
        image.info["transparency"] = 0
    label = parser(image).label
    # Black and white are the labels 0 and 7.
    assert set(np.unique(label[:, 3:13])) == {0}
    assert set(np.unique(label[:, 19:29])) == {7}


def test_exif_orientation_is_respected_in_files_and_pictures(parser, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    # What a camera held upright writes of it: shown, it is turned clockwise again.
    lying = np.ascontiguousarray(np.rot90(picture(CELLS)))
    PIL.Image.fromarray(lying).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    for photograph in (tmp_path / "a.jpg", PIL.Image.open(tmp_path / "a.jpg")):
        assert_parsed(parser(photograph))


def test_odd_sizes_share_few_programs(parser):
    ColourNetwork.num_traces = 0
    sizes = [(20 + 3 * i, 90 - 5 * i) for i in range(11)]
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    for some in (images, images[:3], images[0], images[5]):
        parser(some)
    boxes = [(2, 2, 9, 9), (3, 3, 12, 19), (8, 8, 30, 30)]
    parser(images[4], faces=boxes)
    assert ColourNetwork.num_traces <= 3
    assert [result.label.shape for result in parser(images)] == sizes


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.zeros((8, 8, 3), np.float32), "multiplied by 255"),
        (np.full((8, 8, 3), np.nan), "NaN"),
        (np.zeros((8, 8, 2), np.uint8), r"not uint8 \(8, 8, 2\)"),
        (np.zeros((3, 8, 8), np.uint8), "move the channels to the end"),
        (np.zeros((0, 8, 3), np.uint8), r"not uint8 \(0, 8, 3\)"),
        (PIL.Image.new("F", (8, 8)), "floats"),
        ([], "empty"),
        ([None], "NoneType"),
        (7, "int is no photograph"),
        ("https://host/a.jpg", "download"),
        ("nowhere.jpg", "nowhere.jpg"),
    ],
)
def test_what_is_no_photograph_is_refused_in_one_sentence(parser, given, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        parser(given)
    assert "\n" not in str(error.value)


def test_a_broken_picture_is_refused(parser, tmp_path):
    save(tmp_path / "a.png", picture(CELLS))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:120])
    with pytest.raises(UserError, match=r"a\.png"):
        parser(PIL.Image.open(tmp_path / "a.png"))


def broken(image):
    raise RuntimeError("out of order")


@pytest.mark.parametrize(
    ("detector", "sentence"),
    [
        (broken, "RuntimeError: out of order"),
        (lambda image: [(1, 2, 3)], "no boxes"),
        (lambda image: [(1, 2, 3, float("nan"))], "no boxes"),
        (lambda image: [(9, 9, 3, 3)], "no boxes"),
        (lambda image: 7, "TypeError"),
        (lambda image: [Face((1, 1, 9, 9), 1.0, [[1, np.inf], [2, 3]])], "landmarks"),
        ("all", '"auto", "whole"'),
    ],
)
def test_a_broken_detector_is_named(parser, detector, sentence):
    with pytest.raises(UserError, match=sentence):
        parser(picture(CELLS), faces=detector)


def test_more_faces_than_the_limit_are_refused(parser):
    with pytest.raises(UserError, match="1,001 faces, more than the limit of 1,000"):
        parser(picture(CELLS), faces=[(1, 1, 5, 5)] * 1001)


def test_boxes_for_another_number_of_photographs_are_refused(parser):
    with pytest.raises(UserError, match="boxes for 1 photographs"):
        parser([picture(CELLS)] * 2, faces=[[]])


def test_a_detector_is_asked_and_a_face_that_fills_the_photograph_shows_it_all(parser):
    image = picture(CELLS)
    box = (16, 16, 32, 32)
    small = parser(image, faces=lambda image: [Face(box, 0.95)])
    np.testing.assert_array_equal(small.label, parser(image, faces=[box]).label)
    assert small.faces[0].box == box
    large = parser(image, faces=lambda image: [Face(np.array([4.0, 0, 50, 48]), 0.95)])
    np.testing.assert_array_equal(large.label, parser(image).label)
    assert (large.instances == 1).all()
    # Boxes that are given are what is looked at.
    given = parser(image, faces=[(16, 16, 48, 32)])
    # 32 and 0.4 of it on each side: 57.6 pixels about (32, 24).
    shown = np.zeros(INSIDE.shape, bool)
    shown[:, 4:60] = True
    np.testing.assert_array_equal(given.label[INSIDE & shown], truth(CELLS)[INSIDE & shown])
    assert not given.label[:, [0, 1, 2, 61, 62, 63]].any()
    for nobody in (lambda image: [], lambda image: None, lambda image: [(99, 99, 120, 120)]):
        none = parser(image, faces=nobody)
        # Nor is there one in the map of the cells.
        assert not none.label.any()
        assert none.faces == ()
        assert not none.instances.any()


def test_without_a_detector_the_photograph_is_parsed_complete(parser, monkeypatch):
    monkeypatch.setattr(libfacedetection_private, "is_installed", lambda: False)
    assert faces_lib.default_detector() is None
    assert_parsed(parser(picture(CELLS), faces="auto"))


def test_what_a_result_gives(parser, tmp_path):
    image = picture(CELLS)
    boxes = [(0, 0, 20, 20), (44, 28, 64, 48)]
    result = parser(image, faces=boxes)
    skin = LABEL_SET.classes[1]
    np.testing.assert_array_equal(result.mask(skin), result.label == 1)
    first = result.mask(skin, face=0)
    assert first[5, 5]
    assert not (first & result.mask(skin, face=1)).any()
    assert result.faces[0].area[skin] == first.sum()
    assert result.area[skin] == (result.label == 1).sum()
    assert sum(result.area.values()) == result.label.size
    expected = visualization.overlay(image, result.label, LABEL_SET)
    np.testing.assert_array_equal(result.overlay(), expected)
    with pytest.raises(UserError, match="no part 'beard'"):
        result.mask("beard")
    with pytest.raises(UserError, match="no face 2; this photograph has 2"):
        result.mask(skin, face=2)
    paths = result.save(tmp_path / "out")
    assert [path.name for path in paths] == [
        "photograph.png",
        "photograph_overlay.jpg",
        "photograph.json",
    ]
    np.testing.assert_array_equal(read_label(paths[0]), result.label)
    saved = json.loads(paths[2].read_text())
    assert saved["classes"] == list(LABEL_SET.classes)
    assert [face["box"] for face in saved["faces"]] == [list(box) for box in boxes]
    assert saved["faces"][1]["pixels"] == result.faces[1].area
    with PIL.Image.open(io.BytesIO(result._repr_png_())) as shown:
        height, width = expected.shape[:2]
        np.testing.assert_array_equal(np.asarray(shown)[:height, :width], expected)
        # Below it, and nowhere beside it, the colour of each class that is there.
        below = {tuple(pixel) for pixel in np.asarray(shown)[height:].reshape(-1, 3)}
    seen = {LABEL_SET.palette[label] for label in np.unique(result.label) if label}
    assert seen <= below
    assert not below & (set(LABEL_SET.palette) - seen)


def test_a_plot_has_the_overlay_and_a_legend_of_the_classes_that_are_there(parser):
    from matplotlib.figure import Figure

    result = parser(picture(CELLS))
    axes = Figure().add_subplot()
    assert result.plot(axes, alpha=0.3) is axes
    np.testing.assert_array_equal(axes.get_images()[0].get_array(), result.overlay(0.3))
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    seen = [label for label in np.unique(result.label) if label]
    assert named == [LABEL_SET.titles[label] for label in seen]
    marks = axes.get_legend().legend_handles
    colours = np.array([LABEL_SET.palette[label] for label in seen]) / 255
    np.testing.assert_allclose([mark.get_color() for mark in marks], colours)


@pytest.mark.parametrize("boxes", [None, [(0, 0, 30, 30), (14, 10, 60, 48)]])
def test_probabilities_are_those_that_decided(parser, boxes):
    result = parser(picture(CELLS), faces=boxes)
    probabilities = np.stack([result.probabilities(name) for name in result.names])
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), result.label)
    # In the middle of a cell it is the softmax of the network's own logits.
    logits = 2 * (COLOURS / 255) @ (COLOURS[1] / 255) - ((COLOURS / 255) ** 2).sum(axis=1)
    expected = np.exp(logits) / np.exp(logits).sum()
    if boxes is None:
        np.testing.assert_allclose(probabilities[:, 8, 8], expected, atol=1e-5)


def test_results_need_no_jax():
    code = "import sys, dmlcsr_jax.predict.result; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_it_is_pickled_as_its_arguments(parser):
    again = pickle.loads(pickle.dumps(parser))
    assert again.network is not parser.network
    assert (again.margin, again.wide_margin, again.finds_faces) == (0.4, 0, False)
    assert_parsed(again(picture(CELLS)))


def test_a_forked_process_is_told_to_make_its_own(parser):
    theirs, ours = multiprocessing.Pipe()
    pid = os.fork()
    if not pid:
        try:
            parser(picture(CELLS))
        except UserError as error:
            ours.send(str(error))
        os._exit(0)
    assert theirs.poll(60)
    assert "make it in this process, or start processes by 'spawn'" in theirs.recv()
    os.waitpid(pid, 0)
