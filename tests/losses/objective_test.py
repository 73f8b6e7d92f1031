"""The objective: its total and terms against PyTorch, its corner cases, and several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax.sharding import NamedSharding, PartitionSpec
from reference_losses import (
    IGNORE,
    draw_labels,
    torch_cross_entropy,
    torch_distillation,
    torch_edge_attention,
    torch_edge_cross_entropy,
    torch_lovasz,
    torch_soft_targets,
)
from reference_torch import WEIGHTS

from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.losses import edge_targets, objective


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
    """The complete objective, from the method's text."""
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
            soft = torch_soft_targets(resized, target, m)
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
    label = draw_labels(14)
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
    label = draw_labels(17)
    outputs, teacher = _float32(_outputs(18)), _float32(_outputs(19))
    hard = _value_and_gradient(outputs, label)
    soft = _value_and_gradient(outputs, label, teacher, 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), hard, soft)


def test_lovasz_and_attention_keep_the_hard_labels():
    label = draw_labels(20)
    outputs, teacher = _float32(_outputs(21)), _float32(_outputs(22))
    (_, hard), _ = _value_and_gradient(outputs, label)
    (_, soft), _ = _value_and_gradient(outputs, label, teacher, 3)
    for name in ("lovasz", "attention_binary", "attention_category"):
        assert float(hard[name]) == float(soft[name])
    for name in ("cross_entropy", "binary_edge", "category_edge"):
        assert abs(float(hard[name]) - float(soft[name])) > 1e-3


def test_no_gradient_reaches_the_teacher():
    label = draw_labels(23)
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
        draw_labels(26),
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
    label = draw_labels(30)
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
    label = draw_labels(32)
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
    label = np.concatenate([draw_labels(34), draw_labels(35), draw_labels(36)])[:8]
    outputs = _float32(_outputs(37, batch=8))
    teacher_outputs = _float32(_outputs(38, batch=8)) if teacher else None
    one = _value_and_gradient(outputs, label, teacher_outputs, 2)
    split = NamedSharding(mesh, PartitionSpec("data"))
    outputs, teacher_outputs, label = jax.device_put((outputs, teacher_outputs, label), split)
    eight = _value_and_gradient(outputs, label, teacher_outputs, 2, mesh=mesh)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), one, eight)
