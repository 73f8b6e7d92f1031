"""The marginal loss against NumPy in float64 and PyTorch, its gradient by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dmlcsr_jax.losses import objective
from dmlcsr_jax.losses.marginal import marginal_loss, pixel_marginal

C = 5
GROUPS = np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 1, 1, 1, 1]], bool)
IGNORE = 255
WEIGHTS = dict.fromkeys(
    ("cross_entropy", "lovasz", "binary_edge", "category_edge", "marginal"), 2.0
) | {"attention_binary": 4.0, "attention_category": 1.0}


def draw(seed, batch=4, side=6):
    rng = np.random.default_rng(seed)
    label = rng.choice([*range(C + len(GROUPS)), IGNORE], (batch, side, side)).astype(np.int32)
    label[-1] = 2  # complete
    return rng.normal(scale=3, size=(batch, side, side, C)), label


def numpy_loss(logits, label, teacher=None, m=0):
    def softmax(x):
        x = np.exp(x - x.max(-1, keepdims=True))
        return x / x.sum(-1, keepdims=True)

    p, total = softmax(logits), 0.0
    for image in range(len(label)):
        losses = []
        for y, x in np.argwhere((label[image] >= C) & (label[image] != IGNORE)):
            allowed = GROUPS[label[image, y, x] - C]
            loss = -np.log(p[image, y, x][allowed].sum())
            if teacher is not None:
                q = softmax(teacher[image, y, x])
                divergence = (q * np.log(q / p[image, y, x])).sum()
                loss = (m * divergence + loss) / (m + 1)
            losses.append(loss)
        total += np.mean(losses) if losses else 0.0
    return total / len(label)


@pytest.mark.parametrize("m", [None, 0, 3])
def test_loss_and_gradient_are_numpys(m):
    logits, label = draw(0)
    teacher = None if m is None else draw(1)[0]
    with jax.enable_x64(True):
        loss, gradient = jax.value_and_grad(
            lambda x: marginal_loss(x, label, GROUPS, teacher_logits=teacher, cycle=m or 0)
        )(jnp.asarray(logits))
        loss, gradient = float(loss), np.asarray(gradient)
    np.testing.assert_allclose(loss, numpy_loss(logits, label, teacher, m or 0), rtol=1e-10)
    rng = np.random.default_rng(2)
    for _ in range(20):
        place = tuple(rng.integers(0, size) for size in logits.shape)
        step = np.zeros_like(logits)
        step[place] = 1e-5
        slope = (
            numpy_loss(logits + step, label, teacher, m or 0)
            - numpy_loss(logits - step, label, teacher, m or 0)
        ) / 2e-5
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-5, atol=1e-9)


def test_pixels_are_pytorchs():
    logits, label = draw(3)
    tensor = torch.tensor(logits, requires_grad=True)
    log_p = torch.log_softmax(tensor, -1)
    rows = torch.tensor(np.concatenate([GROUPS, np.ones((1, C), bool)]))
    is_group = (label >= C) & (label != IGNORE)
    allowed = rows[np.where(is_group, label - C, len(GROUPS))]
    expected = -torch.logsumexp(log_p.masked_fill(~allowed, -torch.inf), -1)
    expected = expected * torch.tensor(is_group)
    expected.sum().backward()
    with jax.enable_x64(True):
        found, gradient = (
            np.asarray(pixel_marginal(jnp.asarray(logits), label, GROUPS)),
            np.asarray(
                jax.grad(lambda x: pixel_marginal(x, label, GROUPS).sum())(jnp.asarray(logits))
            ),
        )
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-9, atol=1e-12)


def test_certain_logits_stay_finite():
    _, label = draw(4)
    for scale in (1e4, -1e4):
        logits = jnp.float32(scale * draw(5)[0])
        loss, gradient = jax.value_and_grad(lambda x: marginal_loss(x, label, GROUPS))(logits)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


def outputs_of(seed, label):
    rng = np.random.default_rng(seed)
    shape = (*label.shape, C)
    return {
        "parsing": jnp.float32(rng.normal(size=shape)),
        "binary_edge": jnp.float32(rng.normal(size=(*label.shape, 2))),
        "category_edge": jnp.float32(rng.normal(size=shape)),
    }


def terms_of(outputs, label, groups):
    return objective.objective(outputs, jnp.asarray(label), weights=WEIGHTS, groups=groups)


def test_complete_labels_have_the_same_numbers_with_groups():
    _, label = draw(6)
    label = np.where(label < C, label, IGNORE)
    outputs = outputs_of(7, label)

    def run(groups):
        return jax.value_and_grad(lambda o: terms_of(o, label, groups), has_aux=True)(outputs)

    (total, terms), gradient = run(None)
    (with_groups, with_terms), with_gradient = run(GROUPS)
    assert float(with_terms.pop("marginal")) == 0
    assert float(total) == float(with_groups)
    assert jax.tree.map(float, terms) == jax.tree.map(float, with_terms)
    jax.tree.map(np.testing.assert_array_equal, gradient, with_gradient)


def test_grouped_pixels_are_ignored_by_all_other_terms():
    _, label = draw(8)
    outputs = outputs_of(9, label)
    _, terms = terms_of(outputs, label, GROUPS)
    _, expected = terms_of(outputs, np.where(label < C, label, IGNORE), None)
    marginal = terms.pop("marginal")
    assert jax.tree.map(float, terms) == jax.tree.map(float, expected)
    logits = np.asarray(outputs["parsing"], np.float64)
    np.testing.assert_allclose(marginal, numpy_loss(logits, label), rtol=1e-5)
