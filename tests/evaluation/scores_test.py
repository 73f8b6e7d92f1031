import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.special

from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.data import label_sets, unwarp, warp
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation import scores as scores_lib

SIZE = 24
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


@pytest.fixture(params=["rgb", "bgr"])
def metadata(request):
    return Metadata(
        encoder="tiny",
        stem="deep",
        width=1.0,
        image_size=SIZE,
        channel_order=request.param,
        mean=MEAN,
        std=STD,
        label_set=label_sets.HELEN,
        edge_branch=False,
    )


class StandIn:
    """Logits at a quarter of the resolution: every fourth pixel, mixed, plus its column."""

    def apply(self, variables, images, *, train):
        assert train is False
        assert not set(variables) - {"params", "batch_stats"}
        mixed = images[:, ::4, ::4] @ variables["params"]["mix"]
        columns = jnp.arange(mixed.shape[2])[:, None] * variables["params"]["column"]
        return {"parsing": mixed + columns}


@pytest.fixture
def variables():
    rng = np.random.default_rng(0)
    params = {"mix": rng.normal(size=(3, 11)), "column": rng.normal(size=11)}
    return {
        "params": jax.tree.map(lambda x: x.astype(np.float32), params),
        "batch_stats": {},
    }


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)


def align_corners(x, side):
    """Bilinear resize of [B, H, W, C] to [B, side, side, C], corners on corners, by NumPy."""
    for axis in (1, 2):
        old = x.shape[axis]
        place = np.linspace(0, old - 1, side)
        x = np.apply_along_axis(functools.partial(np.interp, place, np.arange(old)), axis, x)
    return x


def reference_logits(variables, normalized):
    params = variables["params"]
    mixed = normalized[:, ::4, ::4] @ params["mix"].astype(np.float64)
    return align_corners(mixed + np.arange(mixed.shape[2])[:, None] * params["column"], SIZE)


def normalized(images, metadata):
    pixels = images.astype(np.float64) / 255
    if metadata.channel_order == "bgr":
        pixels = pixels[..., [2, 1, 0]]
    return (pixels - MEAN) / STD


def test_single_view_gives_logits_at_the_input_size(metadata, variables, images):
    scores = scores_lib.make_predict_fn(StandIn(), metadata)(variables, images)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(
        scores, reference_logits(variables, normalized(images, metadata)), rtol=1e-4, atol=1e-4
    )


def test_flip_averages_with_left_and_right_exchanged(metadata, variables, images):
    scores = scores_lib.make_predict_fn(StandIn(), metadata, flip=True)(variables, images)
    pixels = normalized(images, metadata)
    plain = scipy.special.softmax(reference_logits(variables, pixels), axis=-1)
    mirrored = scipy.special.softmax(reference_logits(variables, pixels[:, :, ::-1]), axis=-1)
    # Helen: brows are labels 2 and 3, eyes 4 and 5.
    mirrored = mirrored[:, :, ::-1][..., [0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10]]
    np.testing.assert_allclose(scores, (plain + mirrored) / 2, rtol=1e-4, atol=1e-5)


def test_scales_average_probabilities(metadata, variables, images):
    predict = scores_lib.make_predict_fn(StandIn(), metadata, scales=(0.5, 1.0, 1.5))
    pixels = normalized(images, metadata)
    views = [
        scipy.special.softmax(reference_logits(variables, align_corners(pixels, side)), axis=-1)
        for side in (12, 24, 36)
    ]
    np.testing.assert_allclose(predict(variables, images), np.mean(views, axis=0), atol=1e-4)


def test_batch_split_over_devices_gives_the_same(metadata, variables, images):
    predict = scores_lib.make_predict_fn(StandIn(), metadata, flip=True, scales=(1.0, 0.75))
    mesh = sharding.make_mesh()
    assert mesh.size == 8
    split = predict(
        jax.device_put(variables, sharding.replicated(mesh)), sharding.put_batch(images, mesh)
    )
    assert len({shard.device for shard in split.addressable_shards}) == 8
    assert split.addressable_shards[0].data.shape[0] == 1
    np.testing.assert_allclose(
        sharding.local_rows(split), predict(variables, images), rtol=1e-5, atol=1e-6
    )


class InOnePiece(StandIn):
    """A network after which XLA would leave the scores in one piece on every device."""

    def __init__(self, mesh):
        self._sharding = sharding.replicated(mesh)

    def apply(self, variables, images, *, train):
        outputs = super().apply(variables, images, train=train)
        return {"parsing": jax.lax.with_sharding_constraint(outputs["parsing"], self._sharding)}


def test_scores_are_split_as_the_images_whatever_xla_would_choose(metadata, variables, images):
    mesh = sharding.make_mesh()
    arguments = (
        jax.device_put(variables, sharding.replicated(mesh)),
        sharding.put_batch(images, mesh),
    )
    as_xla_likes = scores_lib.make_predict_fn(InOnePiece(mesh), metadata)(*arguments)
    assert as_xla_likes.sharding.is_fully_replicated
    split = scores_lib.make_predict_fn(InOnePiece(mesh), metadata, mesh=mesh)(*arguments)
    assert split.sharding.is_equivalent_to(sharding.batch_sharding(mesh), split.ndim)
    np.testing.assert_allclose(split, as_xla_likes, rtol=1e-5, atol=1e-6)


def test_look_ahead_starts_the_next_batch_before_it_waits_for_one():
    events = []

    class Scores:
        is_fully_addressable = True

        def __init__(self, number):
            self.number = number

        def __array__(self, dtype=None, copy=None):
            events.append(f"wait for {self.number}")
            return np.full((2, 1), self.number)

    def predict(variables, number):
        assert variables == "variables"
        events.append(f"start {number}")
        return Scores(number)

    look_ahead = scores_lib.LookAhead(predict, "variables")
    given = [pair for number in range(4) for pair in look_ahead.start(f"batch {number}", number)]
    given += look_ahead.rest()
    assert [batch for batch, _ in given] == [f"batch {number}" for number in range(4)]
    assert [scores[0, 0] for _, scores in given] == list(range(4))
    assert events == [
        "start 0",
        "start 1",
        "wait for 0",
        "start 2",
        "wait for 1",
        "start 3",
        "wait for 2",
        "wait for 3",
    ]


@pytest.mark.parametrize(
    "scales", [(), (1.0, 0.0), (-1.0,), (1.0, float("nan")), (float("inf"),), (1e6,)]
)
def test_impossible_scales_are_refused(metadata, scales):
    with pytest.raises(UserError, match="scales"):
        scores_lib.make_predict_fn(StandIn(), metadata, scales=scales)


@pytest.mark.parametrize("hw", [(24, 24), (37, 61), (90, 40)])
def test_label_from_scores_reads_bilinearly_at_the_original_pixels(hw):
    scores = np.random.default_rng(2).normal(size=(SIZE, SIZE, 5)).astype(np.float32)
    matrix = warp.box_matrix(warp.photograph_box(hw), SIZE)
    label = scores_lib.label_from_scores(scores, matrix, hw)
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    x, y = np.einsum("ij,jhw->ihw", matrix, np.stack([columns, rows, np.ones(hw)]))
    read = np.stack(
        [
            scipy.ndimage.map_coordinates(scores[..., c], [y, x], order=1, mode="nearest")
            for c in range(5)
        ],
        axis=-1,
    )
    assert label.shape == hw
    assert label.dtype == np.uint8
    # OpenCV reads at 1/32 of a pixel: where the two best classes are that close, either may win.
    best = np.sort(read, axis=-1)
    clear = best[..., -1] - best[..., -2] > 0.1
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(label[clear], np.argmax(read, axis=-1)[clear])


def test_large_photograph_in_strips_equals_one_piece(monkeypatch):
    scores = np.random.default_rng(3).normal(size=(SIZE, SIZE, 5)).astype(np.float32)
    hw = (301, 200)
    matrix = warp.box_matrix(warp.photograph_box(hw), SIZE)
    whole = scores_lib.label_from_scores(scores, matrix, hw)
    monkeypatch.setattr(unwarp, "STRIP_SCORES", 7 * 200 * 5)
    np.testing.assert_array_equal(scores_lib.label_from_scores(scores, matrix, hw), whole)


def test_what_a_crop_does_not_show_is_background():
    scores = np.random.default_rng(4).normal(size=(SIZE, SIZE, 5)).astype(np.float32)
    scores[..., 0] = -100
    for box in [(10, 5, 30, 25), (-20, 30, 12, 50), (-99, -99, 199, 199), (70, 0, 80, 9)]:
        edges = np.array(box, np.float64) - 0.5
        label = scores_lib.label_from_scores(scores, warp.box_matrix(edges, SIZE), (40, 60))
        # A crop is a square about the box's centre.
        side = max(box[2] - box[0], box[3] - box[1])
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        rows, columns = np.mgrid[:40, :60] + 0.5
        shown = (abs(columns - x) < side / 2) & (abs(rows - y) < side / 2)
        np.testing.assert_array_equal(label != 0, shown)
