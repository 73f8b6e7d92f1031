"""Distillation against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_losses import (
    IGNORE,
    assert_same_value_and_gradient,
    draw_labels,
    draw_logits,
    torch_distillation,
    torch_soft_targets,
)

from dmlcsr_jax.losses import distillation
from dmlcsr_jax.self_regulation import soft_targets


@pytest.mark.parametrize("m", [1, 4])
def test_distillation_is_pytorchs_divergence(m):
    label = draw_labels(10)
    logits, teacher = draw_logits(11, (2, *label.shape, 5))

    def ours(x):
        targets = soft_targets.soft_targets(jnp.asarray(teacher), label, m)
        return distillation.distillation(x, targets, label)

    assert_same_value_and_gradient(
        ours, lambda x: torch_distillation(x, torch_soft_targets(teacher, label, m), label), logits
    )


def test_distillation_towards_a_certain_teacher_stays_finite():
    label = draw_labels(12)
    student = np.float32(draw_logits(13, (*label.shape, 5), scale=200.0))
    targets = jnp.asarray(np.eye(5, dtype=np.float32)[np.where(label == IGNORE, 0, label)])
    value, gradient = jax.jit(jax.value_and_grad(distillation.distillation))(
        student, targets, label
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
