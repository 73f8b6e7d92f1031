"""The Lovász-softmax loss against its definition; its ranking on CPUs, accelerators and meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from jax.sharding import NamedSharding, PartitionSpec
from reference_losses import (
    IGNORE,
    assert_same_value_and_gradient,
    draw_labels,
    draw_logits,
    torch_lovasz,
)

from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.losses import lovasz


def test_lovasz_is_its_definition():
    label = draw_labels(2, shape=(3, 9, 8))
    logits = draw_logits(3, (*label.shape, 5))
    # Jaccard steps are float32 whatever the logits are.
    assert_same_value_and_gradient(
        lambda x: lovasz.lovasz_softmax(x, label, IGNORE),
        lambda x: torch_lovasz(x, label),
        logits,
        rtol=1e-6,
    )


def test_lovasz_of_certain_predictions_is_one_minus_mean_iou():
    label = draw_labels(4)
    rng = np.random.default_rng(5)
    truth = np.where(label == IGNORE, 0, label)
    prediction = np.where(rng.random(label.shape) < 0.7, truth, rng.integers(0, 5, label.shape))
    logits = np.float32(1000 * np.eye(5)[prediction])
    valid = label != IGNORE
    expected = 1 - sklearn.metrics.jaccard_score(
        label[valid], prediction[valid], labels=np.unique(label[valid]), average="macro"
    )
    assert float(jax.jit(lovasz.lovasz_softmax)(logits, label)) == pytest.approx(expected, rel=1e-6)


def test_lovasz_keeps_its_digits_with_a_million_pixels():
    """Float32 differences of neighbouring Jaccard losses would be wrong by per cents."""
    rng = np.random.default_rng(6)
    label = (rng.random((1, 2**20)) < 0.3).astype(np.int32)
    logits = rng.normal(size=(*label.shape, 2)).astype(np.float32)
    probability = np.asarray(jax.nn.softmax(logits))[0, :, 1]
    value, gradient = jax.jit(jax.value_and_grad(lovasz.lovasz_softmax))(logits, label)

    # With two classes, both classes' errors are the same numbers: e = |label - probability|.
    truth = label[0] == 1
    errors = np.where(truth, np.float32(1) - probability, probability)
    order = np.argsort(-errors, kind="stable")
    expected_value, slope = 0.0, np.zeros(truth.size)
    for is_class in (truth, ~truth):
        ranked = np.cumsum(is_class[order])
        jaccard_loss = 1 - (is_class.sum() - ranked) / (
            is_class.sum() + np.arange(1, truth.size + 1) - ranked
        )
        steps = np.diff(jaccard_loss, prepend=0)
        expected_value += (errors[order].astype(np.float64) * steps).sum() / 2
        slope[order] += steps / 2
    assert float(value) == pytest.approx(expected_value, rel=2e-5)
    expected = np.where(truth, -1, 1) * slope * np.float64(probability) * (1 - probability)
    # Ties apart, whose order is free: they are few.
    wrong = np.abs(gradient[0, :, 1] - expected) > 1e-4 * np.abs(expected)
    assert wrong.mean() < 0.02


def test_both_ways_of_ranking_agree_bit_for_bit():
    rng = np.random.default_rng(7)
    # Few distinct values: ties everywhere, of the class and not, and the ends 0 and 1.
    errors = jnp.asarray(rng.integers(0, 9, size=(4, 500)) / 8, jnp.float32)
    is_class = jnp.asarray(rng.random((4, 500)) < [[0.3], [0.0], [1.0], [0.01]])
    valid = jnp.asarray(rng.random((1, 500)) < 0.8)
    is_class &= valid
    keys = lovasz.rank_keys(errors, is_class, valid)
    for row in keys:
        pairs, wide = jax.jit(lovasz.sort_pairs)(row), jax.jit(lovasz.sort_wide_keys)(row)
        jax.tree.map(np.testing.assert_array_equal, pairs, wide)
    steps = np.asarray(jax.jit(lovasz.jaccard_steps)(keys))
    np.testing.assert_array_equal(steps[:, ~np.asarray(valid)[0]], 0)
    # The steps of a present class lead from no loss to all of it.
    np.testing.assert_allclose(steps.sum(1), [1, 0, 1, 1], rtol=1e-6)


def test_rank_keys_order_the_floats_from_0_to_1():
    half = np.float32(0.5)
    errors = np.float32([0, 2e-38, 1e-7, np.nextafter(half, half * 0), half, 1, 1.0000001])
    keys = lovasz.rank_keys(jnp.asarray(errors), jnp.zeros(7, bool), jnp.ones(7, bool))
    assert np.all(np.diff(np.asarray(keys).astype(np.int64)[:6]) < 0)
    assert keys[5] == keys[6] == 0


def test_devices_share_the_ranking_by_class():
    mesh = sharding.make_mesh()
    split = NamedSharding(mesh, PartitionSpec("data"))
    logits = jax.ShapeDtypeStruct((8, 6, 6, 17), jnp.float32, sharding=split)
    label = jax.ShapeDtypeStruct((8, 6, 6), jnp.int32, sharding=split)
    loss = jax.jit(lambda x, y: lovasz.lovasz_softmax(x, y, mesh=mesh))
    program = loss.lower(logits, label).compile().as_text()
    # Seventeen classes, padded to 24: three on each device, which ranks all 8x6x6 pixels.
    assert "u32[3,288]" in program
    assert "[17,288]" not in program
    assert "all-to-all" in program
    assert "all-gather" not in program


@pytest.mark.parametrize(("platform", "wide"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_only_cpus_sort_64_bit_integers(platform, wide):
    logits = jax.ShapeDtypeStruct((2, 6, 6, 5), jnp.float32)
    label = jax.ShapeDtypeStruct((2, 6, 6), jnp.int32)
    gradient = jax.jit(jax.value_and_grad(lovasz.lovasz_softmax))
    program = gradient.trace(logits, label).lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.sort" in program
    assert ("ui64" in program) == wide
