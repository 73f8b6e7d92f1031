"""Cross-entropy of the parsing logits, and class-weighted for the edges."""

import jax
import jax.numpy as jnp


def pixel_cross_entropy(logits, label, ignore_label=255):
    """Returns every pixel's cross-entropy, not averaged.

    Args:
      logits: floating `[..., C]`.
      label: integer `[...]`, 0 to C-1 and `ignore_label`.
      ignore_label: label of pixels that count for nothing.

    Returns:
      `[...]`, float32 or float64, at least 0; 0 at ignored pixels.
    """
    log_probabilities = jax.nn.log_softmax(_widen(logits))
    # A sum over the classes fuses with the softmax; a gather's gradient would be a scatter.
    picked = jnp.where(_is_class(label, logits.shape[-1]), log_probabilities, 0).sum(-1)
    return jnp.where(label == ignore_label, 0, -picked)


def cross_entropy(logits, label, ignore_label=255):
    """Mean cross-entropy over the valid pixels.

    Args:
      logits: floating `[..., C]`.
      label: integer `[...]`, 0 to C-1 and `ignore_label`.
      ignore_label: label of pixels that count for nothing.
    """
    return _mean(pixel_cross_entropy(logits, label, ignore_label), label != ignore_label)


def edge_cross_entropy(logits, label, ignore_label=255):
    """Class-weighted cross-entropy of an edge task.

    Class k of n_k among N valid pixels weighs 1 - n_k/N; the mean is normalised by the pixels'
    summed weights, as PyTorch's is. With a single class present nothing weighs anything: 0.

    Args:
      logits: floating `[..., C]`.
      label: integer `[...]`, the edge targets, 0 to C-1 and `ignore_label`.
      ignore_label: label of pixels that count for nothing.
    """
    class_weights = _edge_class_weights(logits.shape[-1], label, ignore_label)
    pixel_weights = _pick(class_weights, label)
    return _mean(pixel_cross_entropy(logits, label, ignore_label), pixel_weights)


def _widen(logits):
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _is_class(label, num_classes):
    return label[..., None] == jnp.arange(num_classes)


def _pick(class_weights, label):
    """Returns each pixel's class weight, 0 where its label is no class."""
    return jnp.where(_is_class(label, class_weights.shape[0]), class_weights, 0).sum(-1)


def _edge_class_weights(num_classes, label, ignore_label):
    is_class = _is_class(label, num_classes) & (label != ignore_label)[..., None]
    counts = is_class.sum(range(label.ndim))
    total = counts.sum()
    # In whole numbers, so that a class of all pixels weighs exactly nothing.
    return (total - counts) / jnp.maximum(total, 1)


def _mean(values, weights):
    """Weighted mean, 0 where the weights sum to 0."""
    weights = weights.astype(values.dtype)
    total = weights.sum()
    return (values * weights).sum() / jnp.where(total > 0, total, 1)
