import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from jax.sharding import NamedSharding, PartitionSpec

from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.losses import (
    cross_entropy,
    distillation,
    edge_attention,
    edge_targets,
    lovasz,
    objective,
)
from dmlcsr_jax.self_regulation import soft_targets

IGNORE = 255
WEIGHTS = {
    "cross_entropy": 2.0,
    "lovasz": 2.0,
    "binary_edge": 1.0,
    "category_edge": 0.2,
    "attention_binary": 4.0,
    "attention_category": 1.0,
}


def _labels(seed, shape=(3, 12, 10), classes=5, absent=(3,)):
    """Label maps of blobs: a class absent, pixels ignored, the last image without edges."""
    rng = np.random.default_rng(seed)
    values = [k for k in range(classes) if k not in absent]
    coarse = rng.choice(values, size=(shape[0], shape[1] // 4 + 1, shape[2] // 4 + 1))
    label = coarse.repeat(4, 1).repeat(4, 2)[:, : shape[1], : shape[2]]
    label[rng.random(shape) < 0.1] = IGNORE
    label[-1] = 1
    return label.astype(np.int32)


def _logits(seed, shape, scale=2.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


# The formulas once more, in PyTorch: [P, C] logits and [P] labels, double precision.


def _flat(logits, label):
    logits = logits.reshape(-1, logits.shape[-1])
    label = torch.as_tensor(np.asarray(label, np.int64)).reshape(-1)
    return logits[label != IGNORE], label[label != IGNORE]


def torch_cross_entropy(logits, label):
    return F.cross_entropy(*_flat(logits, label))


def torch_edge_cross_entropy(logits, label):
    flat_logits, flat_label = _flat(logits, label)
    counts = torch.bincount(flat_label, minlength=logits.shape[-1]).double()
    return F.cross_entropy(flat_logits, flat_label, weight=1 - counts / flat_label.numel())


def torch_edge_attention(logits, label, edge):
    per_image = []
    for image_logits, image_label, image_edge in zip(logits, label, edge, strict=True):
        mask = (image_edge > 0) & (image_label != IGNORE)
        if mask.any():
            target = torch.as_tensor(image_label[mask].astype(np.int64))
            per_image.append(F.cross_entropy(image_logits[torch.as_tensor(mask)], target))
        else:
            per_image.append(torch.zeros((), dtype=logits.dtype))
    return torch.stack(per_image).mean()


def torch_distillation(logits, targets, label):
    valid = torch.as_tensor(np.asarray(label) != IGNORE)
    log_p = F.log_softmax(logits[valid], dim=-1)
    return F.kl_div(log_p, targets[valid], reduction="none").sum(-1).mean()


def torch_lovasz(logits, label):
    """The Lovász extension by its definition: the loss of the k worst pixels, as sets."""
    flat_logits, flat_label = _flat(logits, label)
    probabilities = flat_logits.softmax(-1)
    per_class = []
    for k in flat_label.unique():
        truth = flat_label == k
        errors = torch.where(truth, 1 - probabilities[:, k], probabilities[:, k])
        order = torch.argsort(errors.detach(), descending=True, stable=True)
        wrong = torch.zeros_like(truth)
        value, before = 0.0, 0.0
        for pixel in order:
            wrong[pixel] = True
            # Jaccard loss of mispredicting exactly the set `wrong`.
            jaccard_loss = wrong.sum().item() / (truth | wrong).sum().item()
            value = value + errors[pixel] * (jaccard_loss - before)
            before = jaccard_loss
        per_class.append(value)
    return torch.stack(per_class).mean()


def _soft_targets(teacher, label, m):
    hard = np.eye(teacher.shape[-1])[np.where(label == IGNORE, 0, label)]
    return m / (m + 1) * torch.tensor(teacher).softmax(-1) + torch.tensor(hard) / (m + 1)


def _assert_same_value_and_gradient(ours, theirs, logits, rtol=1e-9):
    """Compares two scalar functions of the logits and their gradients in double precision."""
    with jax.enable_x64(True):
        value, gradient = jax.jit(jax.value_and_grad(ours))(jnp.asarray(logits, jnp.float64))
        value, gradient = np.asarray(value), np.asarray(gradient)
    assert value.dtype == np.float64
    tensor = torch.tensor(logits, requires_grad=True)
    expected = theirs(tensor)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=rtol)
    scale = np.abs(tensor.grad.numpy()).max()
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=rtol, atol=rtol * scale)
    assert scale > 0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (cross_entropy.cross_entropy, torch_cross_entropy),
        (cross_entropy.edge_cross_entropy, torch_edge_cross_entropy),
    ],
)
def test_cross_entropies_are_pytorchs(ours, theirs):
    label = _labels(0)
    logits = _logits(1, (*label.shape, 5))
    _assert_same_value_and_gradient(
        lambda x: ours(x, label, IGNORE), lambda x: theirs(x, label), logits
    )


def test_lovasz_is_its_definition():
    label = _labels(2, shape=(3, 9, 8))
    logits = _logits(3, (*label.shape, 5))
    # Jaccard steps are float32 whatever the logits are.
    _assert_same_value_and_gradient(
        lambda x: lovasz.lovasz_softmax(x, label, IGNORE),
        lambda x: torch_lovasz(x, label),
        logits,
        rtol=1e-6,
    )


def test_lovasz_of_certain_predictions_is_one_minus_mean_iou():
    label = _labels(4)
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
    keys = lovasz._rank_keys(errors, is_class, valid)
    for row in keys:
        pairs, wide = jax.jit(lovasz._sort_pairs)(row), jax.jit(lovasz._sort_wide_keys)(row)
        jax.tree.map(np.testing.assert_array_equal, pairs, wide)
    steps = np.asarray(jax.jit(lovasz._jaccard_steps)(keys))
    np.testing.assert_array_equal(steps[:, ~np.asarray(valid)[0]], 0)
    # The steps of a present class lead from no loss to all of it.
    np.testing.assert_allclose(steps.sum(1), [1, 0, 1, 1], rtol=1e-6)


def test_rank_keys_order_the_floats_from_0_to_1():
    half = np.float32(0.5)
    errors = np.float32([0, 2e-38, 1e-7, np.nextafter(half, half * 0), half, 1, 1.0000001])
    keys = lovasz._rank_keys(jnp.asarray(errors), jnp.zeros(7, bool), jnp.ones(7, bool))
    assert np.all(np.diff(np.asarray(keys).astype(np.int64)[:6]) < 0)
    assert keys[5] == keys[6] == 0


@pytest.mark.parametrize("targets", ["binary", "category"])
def test_edge_attention_is_the_edge_pixels_cross_entropy(targets):
    label = _labels(8)
    logits = _logits(9, (*label.shape, 5))
    edge = edge_targets.binary_edge(jnp.asarray(label))
    if targets == "category":
        edge = edge_targets.category_edge(jnp.asarray(label), edge)
    edge = np.asarray(edge)
    assert not edge[-1].any()

    def ours(x):
        return edge_attention.edge_attention(cross_entropy.pixel_cross_entropy(x, label), edge)

    _assert_same_value_and_gradient(ours, lambda x: torch_edge_attention(x, label, edge), logits)


def test_edge_attention_skips_ignored_edges():
    per_pixel = jnp.asarray([[[1.0, 2.0, 4.0]]])
    assert float(edge_attention.edge_attention(per_pixel, jnp.asarray([[[3, IGNORE, 0]]]))) == 1.0


@pytest.mark.parametrize("m", [1, 4])
def test_distillation_is_pytorchs_divergence(m):
    label = _labels(10)
    logits, teacher = _logits(11, (2, *label.shape, 5))

    def ours(x):
        targets = soft_targets.soft_targets(jnp.asarray(teacher), label, m)
        return distillation.distillation(x, targets, label)

    _assert_same_value_and_gradient(
        ours, lambda x: torch_distillation(x, _soft_targets(teacher, label, m), label), logits
    )


def test_distillation_towards_a_certain_teacher_stays_finite():
    label = _labels(12)
    student = np.float32(_logits(13, (*label.shape, 5), scale=200.0))
    targets = jnp.asarray(np.eye(5, dtype=np.float32)[np.where(label == IGNORE, 0, label)])
    value, gradient = jax.jit(jax.value_and_grad(distillation.distillation))(
        student, targets, label
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def _outputs(seed, batch=3, classes=5, size=(4, 3)):
    rng = np.random.default_rng(seed)
    return {
        "parsing": rng.normal(size=(batch, *size, classes)),
        "binary_edge": rng.normal(size=(batch, *size, 2)),
        "category_edge": rng.normal(size=(batch, *size, classes)),
    }


def _resized(logits, hw):
    moved = logits.permute(0, 3, 1, 2)
    moved = F.interpolate(moved, hw, mode="bilinear", align_corners=True)
    return moved.permute(0, 2, 3, 1)


def torch_objective(outputs, label, width, teacher=None, m=0):
    """The whole objective from the method's text."""
    hw = label.shape[1:]
    binary = np.asarray(edge_targets.binary_edge(jnp.asarray(label), width))
    category = np.where(binary == 1, label, 0)
    targets = {
        "parsing": label,
        "binary_edge": np.where(label == IGNORE, IGNORE, binary),
        "category_edge": np.where(label == IGNORE, IGNORE, category),
    }
    logits = {name: _resized(value, hw) for name, value in outputs.items()}
    hard = dict.fromkeys(targets, torch_edge_cross_entropy) | {"parsing": torch_cross_entropy}
    fits = {}
    for name, target in targets.items():
        if teacher is None:
            fits[name] = hard[name](logits[name], target)
        else:
            resized = _resized(torch.tensor(teacher[name]), hw).numpy()
            soft = _soft_targets(resized, target, m)
            fits[name] = torch_distillation(logits[name], soft, target)
    return {
        "cross_entropy": fits["parsing"],
        "lovasz": torch_lovasz(logits["parsing"], label),
        "binary_edge": fits["binary_edge"],
        "category_edge": fits["category_edge"],
        "attention_binary": torch_edge_attention(logits["parsing"], label, binary),
        "attention_category": torch_edge_attention(logits["parsing"], label, category),
    }


@functools.partial(jax.jit, static_argnames=("mesh", "edge_width"))
def _value_and_gradient(outputs, label, teacher_outputs=None, cycle=0, *, mesh=None, edge_width=1):
    """Compiled once for each shape, with the cycle traced."""

    def total(outputs):
        return objective.objective(
            outputs,
            label,
            weights=WEIGHTS,
            edge_width=edge_width,
            ignore_label=IGNORE,
            teacher_outputs=teacher_outputs,
            cycle=cycle,
            mesh=mesh,
        )

    return jax.value_and_grad(total, has_aux=True)(outputs)


@pytest.mark.parametrize(("width", "m"), [(1, None), (3, None), (1, 2)])
def test_objective_is_the_methods_text(width, m):
    label = _labels(14)
    outputs = _outputs(15)
    teacher = None if m is None else _outputs(16)

    with jax.enable_x64(True):
        (total, terms), gradient = _value_and_gradient(
            jax.tree.map(jnp.asarray, outputs), label, teacher, m or 0, edge_width=width
        )
        terms, gradient = jax.tree.map(np.asarray, (terms, gradient))
    tensors = {name: torch.tensor(x, requires_grad=True) for name, x in outputs.items()}
    expected = torch_objective(tensors, label, width, teacher, m)
    assert set(terms) == set(expected)
    for name, term in terms.items():
        np.testing.assert_allclose(term, expected[name].item(), rtol=1e-6, err_msg=name)
    expected_total = sum(WEIGHTS[name] * term for name, term in expected.items())
    np.testing.assert_allclose(total, expected_total.item(), rtol=1e-6)
    expected_total.backward()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(gradient[name], tensor.grad, rtol=1e-5, atol=1e-8, err_msg=name)


def _float32(outputs):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), outputs)


def test_a_teacher_of_no_students_changes_nothing():
    label = _labels(17)
    outputs, teacher = _float32(_outputs(18)), _float32(_outputs(19))
    hard = _value_and_gradient(outputs, label)
    soft = _value_and_gradient(outputs, label, teacher, 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), hard, soft)


def test_lovasz_and_attention_keep_the_hard_labels():
    label = _labels(20)
    outputs, teacher = _float32(_outputs(21)), _float32(_outputs(22))
    (_, hard), _ = _value_and_gradient(outputs, label)
    (_, soft), _ = _value_and_gradient(outputs, label, teacher, 3)
    for name in ("lovasz", "attention_binary", "attention_category"):
        assert float(hard[name]) == float(soft[name])
    for name in ("cross_entropy", "binary_edge", "category_edge"):
        assert abs(float(hard[name]) - float(soft[name])) > 1e-3


def test_no_gradient_reaches_the_teacher():
    label = _labels(23)
    outputs, teacher = _float32(_outputs(24)), _float32(_outputs(25))

    def total(teacher):
        return objective.objective(
            outputs, label, weights=WEIGHTS, teacher_outputs=teacher, cycle=2
        )[0]

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(teacher)):
        assert leaf.shape[0] == 3
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize("teacher", [False, True])
@pytest.mark.parametrize(
    "label",
    [
        np.full((3, 12, 10), IGNORE, np.int32),
        np.full((3, 12, 10), 2, np.int32),
        np.where(np.arange(120).reshape(1, 12, 10) == 5, 2, IGNORE).repeat(3, 0),
        _labels(26),
    ],
    ids=["all ignored", "a single class", "one pixel an image", "mixed"],
)
def test_every_corner_is_finite(label, teacher):
    """Also under certain logits, where probabilities are exactly 0 and 1."""
    for scale in (1, 1e4):
        outputs = jax.tree.map(lambda x, scale=scale: jnp.float32(scale * x), _outputs(27))
        teacher_outputs = _float32(_outputs(28)) if teacher else None
        (total, terms), gradient = _value_and_gradient(outputs, label, teacher_outputs, 1)
        for leaf in jax.tree.leaves((total, terms)):
            assert leaf.dtype == jnp.float32
            assert leaf.shape == ()
            assert np.isfinite(leaf)
            assert leaf >= 0
        for leaf in jax.tree.leaves(gradient):
            assert np.isfinite(leaf).all()
        if (label == IGNORE).all():
            assert float(total) == 0
            for leaf in jax.tree.leaves(gradient):
                np.testing.assert_array_equal(leaf, 0)


def test_a_single_class_leaves_the_edge_tasks_without_loss():
    label = np.full((3, 12, 10), 2, np.int32)
    (_, terms), _ = _value_and_gradient(_float32(_outputs(29)), label)
    for name in ("binary_edge", "category_edge", "attention_binary", "attention_category"):
        assert float(terms[name]) == 0, name
    assert float(terms["cross_entropy"]) > 0


def test_ignored_pixels_have_no_gradient_and_do_not_change_the_value():
    label = _labels(30)
    logits = {name: np.float32(x) for name, x in _outputs(31, size=(12, 10)).items()}
    other = {
        name: np.where((label == IGNORE)[..., None], np.float32(7 * x[::-1] + 3), x)
        for name, x in logits.items()
    }
    (total, _), gradient = _value_and_gradient(logits, label)
    (other_total, _), other_gradient = _value_and_gradient(other, label)
    assert float(total) == float(other_total)
    for name in gradient:
        np.testing.assert_array_equal(np.asarray(gradient[name])[label == IGNORE], 0)
        np.testing.assert_array_equal(gradient[name], other_gradient[name])


def test_bfloat16_logits_give_float32_losses_of_the_same_numbers():
    label = _labels(32)
    outputs = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), _outputs(33))
    (total, terms), gradient = _value_and_gradient(outputs, label)
    (expected, expected_terms), _ = _value_and_gradient(_float32(outputs), label)
    for name, term in terms.items():
        assert term.dtype == jnp.float32
        assert float(term) == float(expected_terms[name])
    assert float(total) == float(expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("teacher", [False, True])
def test_eight_devices_give_what_one_gives(teacher):
    mesh = sharding.make_mesh()
    assert mesh.size == 8
    label = np.concatenate([_labels(34), _labels(35), _labels(36)])[:8]
    outputs = _float32(_outputs(37, batch=8))
    teacher_outputs = _float32(_outputs(38, batch=8)) if teacher else None
    one = _value_and_gradient(outputs, label, teacher_outputs, 2)
    split = NamedSharding(mesh, PartitionSpec("data"))
    outputs, teacher_outputs, label = jax.device_put((outputs, teacher_outputs, label), split)
    eight = _value_and_gradient(outputs, label, teacher_outputs, 2, mesh=mesh)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), one, eight)


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
