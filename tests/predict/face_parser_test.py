import itertools

import colour_network
import jax
import numpy as np
import pytest
from colour_network import COLOURS, ColourNetwork, interior, picture, truth

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.data import batches, geometry, label_sets, synthetic, unwarp, warp
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation import evaluate
from dmlcsr_jax.models import dmlcsr, scores
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.predict.face_parser import FaceParser, Photograph
from dmlcsr_jax.predict.faces import Face

CELLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 1, 3]]


@pytest.fixture
def installed(monkeypatch):
    colour_network.install(monkeypatch.setattr)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A real checkpoint of a small network with random parameters and statistics."""
    metadata = Metadata(
        encoder="tiny",
        stem="deep",
        width=0.5,
        image_size=32,
        channel_order="bgr",
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
        label_set=label_sets.HELEN,
        edge_branch=True,
    )
    rng = np.random.default_rng(1)

    def random(path, leaf):
        name = model.leaf_name(path)
        if name.endswith(("var", "scale")):
            return np.ones(leaf.shape, np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        return (np.sqrt(2 / fan_in) * rng.normal(size=leaf.shape)).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(random, model.abstract_variables(metadata))
    path = tmp_path_factory.mktemp("checkpoints") / "model"
    model.save_model(path, metadata, variables["params"], variables["batch_stats"])
    return path


class OwnLabels:
    """Drawn faces whose labels are what a parser makes of them."""

    def __init__(self, parser):
        # As wide as high, high and wide, with every fit exercised.
        crops = [(40, 40), (40, 29), (33, 40), (64, 64), (21, 64)]
        self.images = [
            synthetic.draw_face(i, max(hw))[0][: hw[0], : hw[1]] for i, hw in enumerate(crops)
        ]
        self.labels = [result.label for result in parser(self.images, faces="whole")]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index], "name": str(index)}


def test_agrees_with_evaluation_but_where_two_classes_are_as_good(checkpoint):
    parser = FaceParser(checkpoint, batch_size=4, flip=True)
    source = OwnLabels(parser)
    assert [label.shape for label in source.labels] == [i.shape[:2] for i in source.images]
    assert len(np.unique(np.concatenate([label.ravel() for label in source.labels]))) > 2
    metadata, variables = model.load_model(checkpoint)
    predict_fn = scores.make_predict_fn(dmlcsr.build_model(metadata), metadata, flip=True)
    for image, label in zip(source.images, source.labels, strict=True):
        matrix = geometry.box_matrix(geometry.photograph_box(label.shape), 32)
        shown = warp.warp_image(image, matrix, 32)
        said = unwarp.sample(np.asarray(predict_fn(variables, shown[None]))[0], matrix, label.shape)
        own = np.take_along_axis(said, label[..., None].astype(int), axis=2)[..., 0]
        np.testing.assert_allclose(own, said.max(axis=2), rtol=1e-5, atol=1e-4)
    result = evaluate.evaluate(
        predict_fn,
        variables,
        batches.eval_batches(source, label_set=metadata.label_set, image_size=32, batch_size=4),
        metadata.label_set,
    )
    # XLA's interpolation and OpenCV's round differently.
    assert np.trace(result.confusion) > 0.999 * result.confusion.sum()
    assert result.confusion.sum() == sum(label.size for label in source.labels)


def test_labels_by_colour_at_the_original_size(installed):
    parser = FaceParser("any", faces="whole", batch_size=2)
    label = parser(picture(CELLS)).label
    assert label.dtype == np.uint8
    assert label.shape == (48, 64)
    inside = interior(CELLS)
    np.testing.assert_array_equal(label[inside], truth(CELLS)[inside])


def test_photographs_of_any_size_share_few_compilations(installed):
    parser = FaceParser("any", faces="whole", batch_size=4)
    images = [picture(CELLS, cell=cell) for cell in (5, 16, 30, 7, 9)]
    ColourNetwork.num_traces = 0
    labels = [result.label for result in parser(images)]
    # A batch of four, and the one that is left.
    assert ColourNetwork.num_traces == 2
    assert [label.shape for label in labels] == [image.shape[:2] for image in images]
    for label, cell in zip(labels[1:3], (16, 30), strict=True):
        inside = interior(CELLS, cell, margin=cell // 3)
        np.testing.assert_array_equal(label[inside], truth(CELLS, cell)[inside])


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batch_size_does_not_matter(installed, batch_size):
    images = [picture(np.roll(CELLS, i, axis=1)) for i in range(5)]
    parser = FaceParser("any", batch_size=8, faces="whole")
    expected = [parser(image).label for image in images]
    found = FaceParser("any", batch_size=batch_size, faces="whole")(images)
    for result, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result.label, wanted)


def test_box_is_parsed_larger_and_pasted_where_it_was(installed):
    cells = np.full((12, 16), 1)
    cells[4:7, 6:10] = CELLS
    image = picture(cells, cell=4)
    box = (24, 16, 40, 28)
    label = FaceParser("any", faces="whole", margin=0.25)(image, faces=[box]).label
    # The crop: 16 + 2 * 0.25 * 16 = 24 pixels square about (32, 22).
    inside = np.zeros(label.shape, bool)
    inside[10:34, 20:44] = True
    assert (label[~inside] == 0).all()
    assert (label[inside] != 0).all()
    clear = interior(cells, 4, margin=1) & inside
    np.testing.assert_array_equal(label[clear], truth(cells, 4)[clear])
    # Whole, the cells are two pixels wide in the input, and their borders blur.
    whole = FaceParser("any", faces="whole")(image, faces=[]).label
    assert (whole != truth(cells, 4)).sum() > (label[inside] != truth(cells, 4)[inside]).sum()


def test_boxes_are_cropped_as_in_training(monkeypatch):
    image, box = picture(CELLS, cell=4), (2, 2, 12, 10)
    for trained, given, shown in ((0.25, None, 0.25), (0.25, 0.1, 0.1), (0.0, None, 0.0)):
        colour_network.install(monkeypatch.setattr, crop_margin=trained)
        label = FaceParser("any", faces="whole", margin=given)(image, faces=[box]).label
        colour_network.install(monkeypatch.setattr)
        expected = FaceParser("any", faces="whole", margin=shown)(image, faces=[box]).label
        np.testing.assert_array_equal(label, expected)
        assert (label != FaceParser("any", faces="whole")(image, faces=[box]).label).any()


def test_several_boxes_and_one_beyond_the_photograph(installed):
    image = picture(np.full((4, 4), 2))
    parser = FaceParser("any", faces="whole", batch_size=2, margin=0.0)
    boxes = [(0, 0, 16, 16), (48, 48, 80, 80), (200, 200, 210, 210)]
    label = parser(image, faces=boxes).label
    expected = np.zeros((64, 64), np.uint8)
    expected[:16, :16] = 2
    expected[48:, 48:] = 2
    np.testing.assert_array_equal(label, expected)


def test_empty_box_is_refused(installed):
    with pytest.raises(UserError, match="box"):
        FaceParser("any", faces="whole")(picture(CELLS), faces=[(5, 5, 5, 5)])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        "photo.jpg",
    ],
)
def test_what_is_no_photograph_is_the_result(installed, image):
    [(item, error)] = FaceParser("any", faces="whole").results([7], lambda _: Photograph(image))
    assert item == 7
    assert isinstance(error, UserError)
    assert "uint8 array [H, W, 3]" in str(error)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"batch_size": 0}, "batch size"),
        ({"margin": -1.0}, "margin"),
        ({"margin": float("inf")}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"scales": ()}, "scales"),
    ],
)
def test_impossible_settings_are_refused(installed, settings, names):
    with pytest.raises(UserError, match=names):
        FaceParser("any", faces="whole", **settings)


def test_results_keep_order_and_go_on_after_an_unreadable_item(installed):
    def load(item):
        if item % 4 == 1:
            raise UserError(f"item {item} is broken")
        return Photograph(picture(np.full((2, 2), item % 11)))

    parser = FaceParser("any", faces="whole", batch_size=4)
    found = list(parser.results(range(22), load, lambda item, one: (item, set(one.label.flat))))
    assert [item for item, _ in found] == list(range(22))
    for item, result in found:
        if item % 4 == 1:
            assert str(result) == f"item {item} is broken"
        else:
            assert result == (item, {item % 11})


def test_only_a_few_batches_are_held(installed):
    counts = {"loaded": 0, "finished": 0, "most": 0}

    def load(item):
        counts["loaded"] += 1
        counts["most"] = max(counts["most"], counts["loaded"] - counts["finished"])
        return Photograph(picture(CELLS))

    def finish(item, result):
        counts["finished"] += 1

    parser = FaceParser("any", faces="whole", batch_size=2)
    endless = parser.results(itertools.count(), load, finish)
    for _ in itertools.islice(endless, 60):
        pass
    assert 60 <= counts["loaded"] <= 60 + parser.num_at_a_time
    assert counts["most"] <= parser.num_at_a_time < 100
    endless.close()


def test_error_in_finishing_ends_the_results(installed):
    def finish(item, result):
        raise UserError("no room")

    parser = FaceParser("any", faces="whole")
    results = parser.results(range(100), lambda item: Photograph(picture(CELLS)), finish)
    with pytest.raises(UserError, match="no room"):
        list(results)


def test_pixels_that_are_not_kept_are_zeros_beside_their_label_map(installed):
    load = lambda cells: Photograph(picture(cells), is_kept=False)  # noqa: E731
    for cells, result in FaceParser("any", faces="whole").results([CELLS, [[1, 2]]], load):
        assert result.image.shape == picture(cells).shape
        assert not result.image.any()
        inside = interior(cells)
        np.testing.assert_array_equal(result.label[inside], truth(cells)[inside])


def test_a_thousand_boxes_are_parsed_in_batches(installed):
    # Boxes of two pixels, some of them on one another.
    boxes = [(x, y, x + 2, y + 2) for y in range(20) for x in range(25)] * 2
    image = picture(np.full((4, 4), 2), cell=8)
    result = FaceParser("any", faces="whole", margin=0.0)(image, faces=boxes)
    assert len(result.faces) == 1000
    expected = np.zeros((32, 32), np.uint8)
    expected[:21, :26] = 2
    np.testing.assert_array_equal(result.label, expected)


@pytest.mark.parametrize("hw", [(1, 1), (1, 40), (40, 1), (2, 300)])
@pytest.mark.parametrize("way", ["whole", "given", "found", "beyond"])
def test_photographs_of_a_pixel_across(installed, hw, way):
    image = np.full((*hw, 3), COLOURS[2], np.uint8)
    all_of_it = [(0, 0, hw[1], hw[0])]
    faces = {
        "whole": "whole",
        "given": all_of_it,
        "found": lambda image: [Face(all_of_it[0], 0.95)],
        "beyond": [(900, 900, 950, 950)],
    }[way]
    result = FaceParser("any")(image, faces=faces)
    # One pixel beside the black around it is nearly black.
    expected = {0} if way == "beyond" else {2} if hw[0] == hw[1] else {0, 2}
    assert set(result.label.flat) <= expected
    probabilities = [result.probabilities(name) for name in result.names]
    assert result.label.shape == hw
    np.testing.assert_allclose(np.sum(probabilities, axis=0), np.ones(hw), atol=1e-5)


def test_no_boxes_that_are_given_show_all_of_the_photograph(installed):
    parser = FaceParser("any", faces=lambda image: [(0, 0, 4, 4)])
    result = parser(picture(CELLS), faces=[])
    expected = parser(picture(CELLS), faces="whole")
    np.testing.assert_array_equal(result.label, expected.label)
    assert not result.faces
    assert not result.instances.any()
