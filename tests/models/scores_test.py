import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models import scores as scores_lib
from dmlcsr_jax.models.metadata import Metadata

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


def test_single_view_gives_the_networks_logits(metadata, variables, images):
    scores = scores_lib.make_predict_fn(StandIn(), metadata)(variables, images)
    assert scores.dtype == np.float32
    assert scores.shape == (8, SIZE // 4, SIZE // 4, 11)
    np.testing.assert_allclose(
        scores_lib.at_input_size(scores, SIZE),
        reference_logits(variables, normalized(images, metadata)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_flip_averages_with_left_and_right_exchanged(metadata, variables, images):
    scores = scores_lib.make_predict_fn(StandIn(), metadata, flip=True)(variables, images)
    pixels = normalized(images, metadata)
    plain = scipy.special.softmax(reference_logits(variables, pixels), axis=-1)
    mirrored = scipy.special.softmax(reference_logits(variables, pixels[:, :, ::-1]), axis=-1)
    # Helen: brows are labels 2 and 3, eyes 4 and 5.
    mirrored = mirrored[:, :, ::-1][..., [0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10]]
    np.testing.assert_allclose(np.exp(scores), (plain + mirrored) / 2, rtol=1e-4, atol=1e-5)
    assert scores_lib.at_input_size(scores, SIZE).shape == scores.shape


def test_scales_average_probabilities(metadata, variables, images):
    predict = scores_lib.make_predict_fn(StandIn(), metadata, scales=(0.5, 1.0, 1.5))
    pixels = normalized(images, metadata)
    views = [
        scipy.special.softmax(reference_logits(variables, align_corners(pixels, side)), axis=-1)
        for side in (12, 24, 36)
    ]
    found = np.exp(predict(variables, images))
    np.testing.assert_allclose(found, np.mean(views, axis=0), atol=1e-4)


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


def test_look_ahead_starts_the_next_batch_before_it_gives_one():
    events = []

    def predict(variables, number):
        assert variables == "variables"
        events.append(f"start {number}")
        return jnp.full((2, 1), number)

    def give(pairs):
        for batch, rows in pairs:
            events.append(f"give {batch}")
            assert [int(row[0]) for row in rows] == [batch, batch]

    look_ahead = scores_lib.LookAhead(predict, "variables")
    for number in range(4):
        give(look_ahead.start(number, number))
    give(look_ahead.rest())
    assert events == [
        "start 0",
        "start 1",
        "give 0",
        "start 2",
        "give 1",
        "start 3",
        "give 2",
        "give 3",
    ]


@pytest.mark.parametrize(
    "scales", [(), (1.0, 0.0), (-1.0,), (1.0, float("nan")), (float("inf"),), (1e6,)]
)
def test_impossible_scales_are_refused(metadata, scales):
    with pytest.raises(UserError, match="scales"):
        scores_lib.make_predict_fn(StandIn(), metadata, scales=scales)
