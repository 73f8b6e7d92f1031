"""The consistency loss against NumPy in float64, its gradient by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmlcsr_jax.losses import objective
from dmlcsr_jax.losses.consistency import consistency_loss

C, IGNORE, CONFIDENCE = 4, 255, 0.6
GROUPS = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool)


def draw(seed, batch=3, side=5):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2, 3, C, C + 1, IGNORE], (batch, side, side)).astype(np.int32)
    label[-1] = 2  # complete
    return rng.normal(scale=2, size=(batch, side, side, C)), label


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def numpy_loss(logits, label, teacher, groups=GROUPS):
    total = 0.0
    for image in range(len(label)):
        losses = []
        for y, x in np.ndindex(label.shape[1:]):
            value = label[image, y, x]
            if value < C:
                continue
            allowed = np.ones(C, bool)
            if value != IGNORE and groups is not None:
                allowed = groups[value - C]
            q = np.where(allowed, softmax(teacher[image, y, x]), 0)
            if q.max() < CONFIDENCE:
                losses.append(0.0)
                continue
            q = q[allowed] / q.sum()
            p = softmax(logits[image, y, x])[allowed]
            losses.append(float((q * np.log(q / p)).sum()))
        total += np.mean(losses) if losses else 0.0
    return total / len(label)


@pytest.mark.parametrize("groups", [GROUPS, None])
def test_loss_and_gradient_are_numpys(groups):
    logits, label = draw(0)
    if groups is None:
        label = np.where(label < C, label, IGNORE)
    teacher = draw(1)[0]
    options = {"groups": groups, "ignore_label": IGNORE, "confidence": CONFIDENCE}
    with jax.enable_x64(True):
        loss, (gradient, of_teacher) = jax.value_and_grad(
            lambda x, t: consistency_loss(x, label, t, **options), argnums=(0, 1)
        )(jnp.asarray(logits), jnp.asarray(teacher))
        loss, gradient = float(loss), np.asarray(gradient)
    np.testing.assert_allclose(loss, numpy_loss(logits, label, teacher, groups), rtol=1e-10)
    assert loss > 0
    assert not np.asarray(of_teacher).any()
    rng = np.random.default_rng(2)
    for _ in range(20):
        place = tuple(rng.integers(0, size) for size in logits.shape)
        step = np.zeros_like(logits)
        step[place] = 1e-5
        slope = (
            numpy_loss(logits + step, label, teacher, groups)
            - numpy_loss(logits - step, label, teacher, groups)
        ) / 2e-5
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-5, atol=1e-9)


def test_a_student_of_the_teachers_opinion_has_no_loss():
    logits, label = draw(3)
    label = np.full_like(label, IGNORE)
    options = {"groups": GROUPS, "ignore_label": IGNORE, "confidence": 0.0}
    loss = consistency_loss(jnp.float32(logits), label, jnp.float32(logits), **options)
    np.testing.assert_allclose(loss, 0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_certain_logits_stay_finite(scale):
    _, label = draw(4)
    logits, teacher = (jnp.float32(scale * draw(seed)[0]) for seed in (5, 6))
    options = {"groups": GROUPS, "ignore_label": IGNORE, "confidence": CONFIDENCE}
    loss, gradient = jax.value_and_grad(lambda x: consistency_loss(x, label, teacher, **options))(
        logits
    )
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


def test_the_objective_takes_it_beside_the_other_terms():
    logits, label = draw(7)
    rng = np.random.default_rng(8)
    shape = label.shape
    outputs = {
        "parsing": jnp.float32(logits),
        "binary_edge": jnp.float32(rng.normal(size=(*shape, 2))),
        "category_edge": jnp.float32(rng.normal(size=(*shape, C))),
    }
    weights = dict.fromkeys(
        ("cross_entropy", "lovasz", "binary_edge", "category_edge", "attention_binary"), 1.0
    ) | {"attention_category": 1.0, "marginal": 1.0, "consistency": 3.0}
    teacher = draw(9)[0]
    common = {"weights": weights, "groups": GROUPS}
    without, terms = objective.objective(outputs, jnp.asarray(label), **common)
    total, with_it = objective.objective(
        outputs,
        jnp.asarray(label),
        weak_teacher_logits=jnp.float32(teacher),
        confidence=CONFIDENCE,
        **common,
    )
    consistency = with_it.pop("consistency")
    assert jax.tree.map(float, terms) == jax.tree.map(float, with_it)
    np.testing.assert_allclose(consistency, numpy_loss(logits, label, teacher), rtol=1e-5)
    np.testing.assert_allclose(total, without + 3 * consistency, rtol=1e-6)
