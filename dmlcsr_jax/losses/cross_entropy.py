"""Cross-entropy of the parsing logits, and class-weighted for the edges."""

import jax
import jax.numpy as jnp

from dmlcsr_jax.losses.reduction import is_class, pick, weighted_mean, widen


def pixel_cross_entropy(logits, label, ignore_label=255):
    """Returns every pixel's cross-entropy, not averaged.

    Args:
      logits: floating `[..., C]`.
      label: integer `[...]`, 0 to C-1 and `ignore_label`.
      ignore_label: label of pixels that count for nothing.

    Returns:
      `[...]`, float32 or float64, at least 0; 0 at ignored pixels.
    """
    log_probabilities = jax.nn.log_softmax(widen(logits))
    # A sum over the classes fuses with the softmax; a gather's gradient would be a scatter.
    picked = jnp.where(is_class(label, logits.shape[-1]), log_probabilities, 0).sum(-1)
    return jnp.where(label == ignore_label, 0, -picked)


def cross_entropy(logits, label, ignore_label=255):
    """Mean cross-entropy over the valid pixels.

    Args:
      logits: floating `[..., C]`.
      label: integer `[...]`, 0 to C-1 and `ignore_label`.
      ignore_label: label of pixels that count for nothing.
    """
    return weighted_mean(pixel_cross_entropy(logits, label, ignore_label), label != ignore_label)


def edge_cross_entropy(logits, label, ignore_label=255):
    """Class-weighted cross-entropy of an edge task.

    Class k of n_k among N valid pixels weighs 1 - n_k/N; the mean is normalised by the pixels'
    summed weights, as PyTorch's is. With a single class present nothing weighs anything: 0.

    Args:
      logits: floating `[..., C]`.
      label: integer `[...]`, the edge targets, 0 to C-1 and `ignore_label`.
      ignore_label: label of pixels that count for nothing.
    """
    class_weights = edge_class_weights(logits.shape[-1], label, ignore_label)
    pixel_weights = pick(class_weights, label)
    return weighted_mean(pixel_cross_entropy(logits, label, ignore_label), pixel_weights)


def edge_class_weights(num_classes, label, ignore_label=255):
    """Returns float32 `[C]`, an edge task's class weights: 1 - n_k/N over the valid pixels."""
    valid = is_class(label, num_classes) & (label != ignore_label)[..., None]
    counts = valid.sum(range(label.ndim))
    total = counts.sum()
    # In integers, so that a class of all pixels weighs exactly nothing.
    return (total - counts) / jnp.maximum(total, 1)
