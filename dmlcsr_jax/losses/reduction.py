"""What the terms share: precision, divergence, a class's weight at each pixel, weighted mean."""

import jax
import jax.numpy as jnp


def widen(logits):
    """Returns the logits in float32 at least, the precision of every loss."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def divergence(targets, logits):
    """Returns `KL(targets || softmax(logits))`, `[...]`, of `[..., C]` as `widen` returns them."""
    return -(targets * jax.nn.log_softmax(logits) + jax.scipy.special.entr(targets)).sum(-1)


def is_class(label, num_classes):
    """Returns bool `[..., C]`, the one-hot form of integer labels `[...]`."""
    return label[..., None] == jnp.arange(num_classes)


def pick(class_weights, label):
    """Returns each pixel's class weight `[...]`, 0 where its label is no class."""
    return jnp.where(is_class(label, class_weights.shape[0]), class_weights, 0).sum(-1)


def weighted_mean(values, weights):
    """Returns the scalar mean of `values`, 0 where the weights sum to 0."""
    weights = weights.astype(values.dtype)
    total = weights.sum()
    return (values * weights).sum() / jnp.where(total > 0, total, 1)
