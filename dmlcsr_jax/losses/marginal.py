"""The marginal loss of labels that mean one of several classes.

As in Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ
segmentation" (Medical Image Analysis 2021, arXiv 2007.03868), and Fang and Yan, "Multi-organ
segmentation over partially labeled datasets with multi-scale feature abstraction" (IEEE TMI 2020,
arXiv 2001.00208): the classes that a label allows are merged by adding their probabilities.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dmlcsr_jax.losses.reduction import divergence, weighted_mean, widen


def pixel_marginal(logits, label, groups):
    """Returns every pixel's `-log` of the summed probability of the classes its group allows.

    Args:
      logits: floating `[..., C]`.
      label: integer `[...]`; C + i is group i.
      groups: bool `[G, C]`, which classes each group allows, at least one; a constant.

    Returns:
      `[...]`, float32 or float64, at least 0; 0 where the label is no group.
    """
    logits = widen(logits)
    is_group, allowed = allowed_classes(label, groups, logits.shape[-1])
    # Where there is no group all classes are allowed: the loss and its gradient are 0 there.
    summed = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=-1, where=allowed)
    return jnp.where(is_group, -summed, 0)


def allowed_classes(label, groups, num_classes):
    """Returns where labels are groups, bool `[...]`, and which classes they allow, `[..., C]`.

    Args:
      label: integer `[...]`; C + i is group i; all else allows every class.
      groups: bool `[G, C]`; None: there are no groups.
      num_classes: C.
    """
    if groups is None:
        return jnp.zeros(label.shape, bool), jnp.ones((*label.shape, num_classes), bool)
    number = jnp.asarray(label, jnp.int32) - num_classes
    is_group = (number >= 0) & (number < len(groups))
    rows = jnp.concatenate([jnp.asarray(groups), jnp.ones((1, num_classes), bool)])
    return is_group, rows[jnp.where(is_group, number, len(groups))]


def marginal_loss(logits, label, groups, *, teacher_logits=None, cycle=0):
    """Marginal loss, the mean over each image's grouped pixels, averaged over the images.

    Sets differ in how much of an image they label: with one mean over the batch an image of a few
    sure points would count for nothing beside one that is labelled up to its rim. An image without
    groups adds 0 and is counted, so that a source counts by its share of the batch.

    Args:
      logits: floating `[B, H, W, C]`.
      label: integer `[B, H, W]`; C + i is group i, all else is left out.
      groups: bool `[G, C]`, as for `pixel_marginal`.
      teacher_logits: as `logits`: mixes in the divergence from the teacher by m/(m+1), as
        `soft_targets` does for a label; None: the groups alone.
      cycle: m, the number of students in the teacher, may be traced.
    """
    per_pixel = pixel_marginal(logits, label, groups)
    if teacher_logits is not None:
        teacher = jax.nn.softmax(lax.stop_gradient(widen(teacher_logits)))
        count = jnp.asarray(cycle, teacher.dtype)
        per_pixel = (count * divergence(teacher, widen(logits)) + per_pixel) / (count + 1)
    num_classes = logits.shape[-1]
    is_group = (label >= num_classes) & (label < num_classes + len(groups))
    return jax.vmap(weighted_mean)(per_pixel, is_group).mean()
