import itertools

import colour_network
import jax
import numpy as np
import pytest
from colour_network import ColourNetwork, interior, picture, truth

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.data import batches, label_sets, synthetic
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation import evaluate, scores
from dmlcsr_jax.models import dmlcsr
from dmlcsr_jax.predict.face_parser import FaceParser, Photograph

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
        self.labels = parser.parse_batch(self.images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index], "name": str(index)}


def test_agrees_with_evaluation_in_every_pixel(checkpoint):
    parser = FaceParser(checkpoint, batch_size=4, flip=True)
    source = OwnLabels(parser)
    assert [label.shape for label in source.labels] == [i.shape[:2] for i in source.images]
    assert len(np.unique(np.concatenate([label.ravel() for label in source.labels]))) > 2
    metadata, variables = model.load_model(checkpoint)
    result = evaluate.evaluate(
        scores.make_predict_fn(dmlcsr.build_model(metadata), metadata, flip=True),
        variables,
        batches.eval_batches(source, label_set=metadata.label_set, image_size=32, batch_size=4),
        metadata.label_set,
    )
    assert np.trace(result.confusion) == result.confusion.sum()
    assert result.confusion.sum() == sum(label.size for label in source.labels)


def test_labels_by_colour_at_the_original_size(installed):
    parser = FaceParser("any", batch_size=2)
    label = parser.parse(picture(CELLS))
    assert label.dtype == np.uint8
    assert label.shape == (48, 64)
    inside = interior(CELLS)
    np.testing.assert_array_equal(label[inside], truth(CELLS)[inside])


def test_photographs_of_any_size_share_one_compilation(installed):
    parser = FaceParser("any", batch_size=4)
    images = [picture(CELLS, cell=cell) for cell in (5, 16, 30, 7, 9)]
    ColourNetwork.num_traces = 0
    labels = parser.parse_batch(images)
    assert ColourNetwork.num_traces == 1
    assert [label.shape for label in labels] == [image.shape[:2] for image in images]
    for label, cell in zip(labels[1:3], (16, 30), strict=True):
        inside = interior(CELLS, cell, margin=cell // 3)
        np.testing.assert_array_equal(label[inside], truth(CELLS, cell)[inside])


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batch_size_does_not_matter(installed, batch_size):
    images = [picture(np.roll(CELLS, i, axis=1)) for i in range(5)]
    expected = [FaceParser("any", batch_size=8).parse(image) for image in images]
    for label, wanted in zip(
        FaceParser("any", batch_size=batch_size).parse_batch(images), expected, strict=True
    ):
        np.testing.assert_array_equal(label, wanted)


def test_box_is_parsed_larger_and_pasted_where_it_was(installed):
    cells = np.full((12, 16), 1)
    cells[4:7, 6:10] = CELLS
    image = picture(cells, cell=4)
    box = (24, 16, 40, 28)
    label = FaceParser("any", margin=0.25).parse(image, [box])
    # The crop: 16 + 2 * 0.25 * 16 = 24 pixels square about (32, 22).
    inside = np.zeros(label.shape, bool)
    inside[10:34, 20:44] = True
    assert (label[~inside] == 0).all()
    assert (label[inside] != 0).all()
    clear = interior(cells, 4, margin=1) & inside
    np.testing.assert_array_equal(label[clear], truth(cells, 4)[clear])
    # Whole, the cells are two pixels wide in the input, and their borders blur.
    whole = FaceParser("any").parse(image)
    assert (whole != truth(cells, 4)).sum() > (label[inside] != truth(cells, 4)[inside]).sum()


def test_boxes_are_cropped_as_in_training(monkeypatch):
    image, box = picture(CELLS, cell=4), (2, 2, 12, 10)
    for trained, given, shown in ((0.25, None, 0.25), (0.25, 0.1, 0.1), (0.0, None, 0.0)):
        colour_network.install(monkeypatch.setattr, crop_margin=trained)
        label = FaceParser("any", margin=given).parse(image, [box])
        colour_network.install(monkeypatch.setattr)
        expected = FaceParser("any", margin=shown).parse(image, [box])
        np.testing.assert_array_equal(label, expected)
        assert (label != FaceParser("any").parse(image, [box])).any()


def test_several_boxes_and_one_beyond_the_photograph(installed):
    image = picture(np.full((4, 4), 2))
    parser = FaceParser("any", batch_size=2, margin=0.0)
    label = parser.parse_batch([image], [[(0, 0, 16, 16), (48, 48, 80, 80), (200, 200, 210, 210)]])[
        0
    ]
    expected = np.zeros((64, 64), np.uint8)
    expected[:16, :16] = 2
    expected[48:, 48:] = 2
    np.testing.assert_array_equal(label, expected)


def test_empty_box_is_refused(installed):
    with pytest.raises(UserError, match="box"):
        FaceParser("any").parse(picture(CELLS), [(5, 5, 5, 5)])


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
def test_what_is_no_photograph_is_refused(installed, image):
    with pytest.raises(UserError, match=r"uint8 array \[H, W, 3\]"):
        FaceParser("any").parse(image)


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
        FaceParser("any", **settings)


def test_stream_keeps_order_and_goes_on_after_an_unreadable_item(installed):
    def load(item):
        if item % 4 == 1:
            raise UserError(f"item {item} is broken")
        return Photograph(picture(np.full((2, 2), item % 11)))

    results = list(
        FaceParser("any", batch_size=4).stream(
            range(22), load, lambda item, photograph, label: (item, set(np.unique(label)))
        )
    )
    assert [item for item, _ in results] == list(range(22))
    for item, result in results:
        if item % 4 == 1:
            assert str(result) == f"item {item} is broken"
        else:
            assert result == (item, {item % 11})


def test_stream_reads_only_a_few_batches_ahead(installed):
    loaded = []

    def load(item):
        loaded.append(item)
        return Photograph(picture(CELLS))

    parser = FaceParser("any", batch_size=2)
    endless = parser.stream(itertools.count(), load, lambda item, photograph, label: None)
    for _ in itertools.islice(endless, 30):
        pass
    assert 30 <= max(loaded) < 30 + 4 * 2 + 3 * 64
    endless.close()


def test_error_in_finishing_ends_the_stream(installed):
    def finish(item, photograph, label):
        raise UserError("no room")

    stream = FaceParser("any").stream(range(100), lambda item: Photograph(picture(CELLS)), finish)
    with pytest.raises(UserError, match="no room"):
        list(stream)
