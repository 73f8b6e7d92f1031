"""What a teacher adds where labels leave a class open: self-training on weak and strong views.

The teacher sees a photograph as it is, the student the same view degraded, and only what the
teacher is sure of counts: FixMatch (Sohn et al., NeurIPS 2020, arXiv 2001.07685) with the averaged
teacher of Tarvainen and Valpola (NeurIPS 2017, arXiv 1703.01780) and its soft predictions in place
of one class. In the terms of self-regulation (arXiv 2203.14448, section 3.4) the label's share
1/(m+1) is 0 and the teacher's m/(m+1) is 1.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dmlcsr_jax.losses.marginal import allowed_classes
from dmlcsr_jax.losses.reduction import divergence, weighted_mean, widen


def consistency_loss(logits, label, teacher_logits, *, groups, ignore_label, confidence):
    """Divergence from a teacher, of all pixels whose label is a group or not known at all.

    Within a group the teacher's probabilities are those of the classes that the group allows,
    scaled to sum to 1. The mean is over each image's open pixels, those of which the teacher is not
    sure counted as 0, then over the images.

    Args:
      logits: floating `[B, H, W, C]`, of the strong views.
      label: integer `[B, H, W]`; 0 to C-1 is left out, C + i is group i, `ignore_label` any class.
      teacher_logits: floating `[B, H, W, C]`, of the weak views; carries no gradient.
      groups: bool `[G, C]`, as for `marginal.pixel_marginal`; None: there are no groups.
      ignore_label: label of pixels that may be any class.
      confidence: least probability of the teacher's most probable allowed class, 0 to 1.

    Returns:
      A scalar, float32 or float64, at least 0.
    """
    is_open, allowed = allowed_classes(label, groups, logits.shape[-1])
    is_open |= label == ignore_label
    teacher = jnp.where(allowed, jax.nn.softmax(lax.stop_gradient(widen(teacher_logits))), 0)
    is_sure = teacher.max(axis=-1) >= confidence
    teacher /= jnp.maximum(teacher.sum(axis=-1, keepdims=True), jnp.finfo(teacher.dtype).tiny)
    per_pixel = jnp.where(is_sure, divergence(teacher, widen(logits)), 0)
    return jax.vmap(weighted_mean)(per_pixel, is_open).mean()
