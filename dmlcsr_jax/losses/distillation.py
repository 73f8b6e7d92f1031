"""Divergence from the teacher's soft targets (arXiv 2203.14448, section 3.4)."""

import jax.numpy as jnp
from jax import lax

from dmlcsr_jax.losses.reduction import divergence, pick, weighted_mean, widen


def distillation(logits, targets, label, ignore_label=255, class_weights=None):
    """Divergence of the softmax from soft targets, `KL(q || softmax(logits))`, at temperature 1.

    Args:
      logits: floating `[..., C]`.
      targets: q, floating `[..., C]`, not negative, sums to 1 at valid pixels; no gradient.
      label: integer `[...]`, 0 to C-1 and `ignore_label`: which pixels are valid.
      ignore_label: label of pixels that count for nothing.
      class_weights: floating `[C]`, not negative: makes the mean over the valid pixels one that is
        weighted by the class of the label; None weighs all alike.
    """
    logits = widen(logits)
    targets = lax.stop_gradient(targets).astype(logits.dtype)
    valid = label != ignore_label
    pixel_weights = valid if class_weights is None else pick(class_weights, label)
    return weighted_mean(jnp.where(valid, divergence(targets, logits), 0), pixel_weights)
