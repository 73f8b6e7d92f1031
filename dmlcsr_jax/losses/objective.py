"""The training objective (arXiv 2203.14448, section 3; method, "Losses").

Every loss is a scalar of float32, float64 where the logits are, finite and with finite gradients
whatever the labels: with nothing to average over it is 0. Pixels of the ignore label carry neither
loss nor gradient but for `consistency`, and where a pixel's own label is ignored its edge targets
are ignored too.

Labels that mean one of several classes (`data.partial_labels`) have a term of their own,
`marginal`, and what they leave open another, `consistency`, where there are weak views for a
teacher; to all others such pixels are ignored. Lovász' ranking needs to know of every pixel that
is *not* of a class; an edge is where the class changes, and inside a group it changes unseen; and
the rims of other sets' groups are rougher than the edges that attention is there to sharpen.
"""

import jax.numpy as jnp

from dmlcsr_jax.losses import edge_targets
from dmlcsr_jax.losses.consistency import consistency_loss
from dmlcsr_jax.losses.cross_entropy import (
    cross_entropy,
    edge_class_weights,
    edge_cross_entropy,
    pixel_cross_entropy,
)
from dmlcsr_jax.losses.distillation import distillation
from dmlcsr_jax.losses.edge_attention import edge_attention
from dmlcsr_jax.losses.lovasz import lovasz_softmax
from dmlcsr_jax.losses.marginal import marginal_loss
from dmlcsr_jax.losses.reduction import widen
from dmlcsr_jax.models.layers import resize
from dmlcsr_jax.self_regulation.soft_targets import soft_targets


def objective(
    outputs,
    label,
    *,
    weights,
    edge_width=1,
    lovasz="exact",
    ignore_label=255,
    teacher_outputs=None,
    cycle=0,
    mesh=None,
    groups=None,
    weak_teacher_logits=None,
    confidence=0.9,
):
    """Computes the weighted sum of all terms and each term by itself.

    Args:
      outputs: the student's logits, floating, of any resolution: `parsing` `[B, h, w, C]`,
        `binary_edge` `[B, h, w, 2]`, `category_edge` `[B, h, w, C]`.
      label: int32 `[B, H, W]`, 0 to C-1, C + i for group i, and `ignore_label`.
      weights: `config.loss.weights`: a mapping from each of `cross_entropy`, `lovasz`,
        `binary_edge`, `category_edge`, `attention_binary`, `attention_category`, with groups
        `marginal`, and with weak views `consistency` to its factor in the total.
      edge_width: dilation of the edge targets, as in `edge_targets.binary_edge`.
      lovasz: form of the Lovász term, `exact` or `binned`.
      ignore_label: label of pixels without a known class.
      teacher_outputs: the teacher's logits, as `outputs`; None trains on the labels alone. With a
        teacher the three cross-entropies become `distillation` towards `soft_targets`. Its edges
        then weigh all pixels alike; only with a teacher of no students (`cycle` 0) do they keep
        the class weights, so that the terms are those of the labels alone.
      cycle: m, the number of students in the teacher, may be traced; without a teacher unused.
      mesh: the mesh over which the batch is split, for `lovasz_softmax`; None for one device.
      groups: bool `[G, C]`, the classes that each group allows; None: there are no groups.
      weak_teacher_logits: `[B, h, w, C]`, what a teacher's parsing makes of the weak views; None:
        there are none.
      confidence: as for `consistency_loss`.

    Returns:
      The total, a scalar, and a dict from each term's name to its unweighted scalar.
    """
    given = label
    if groups is not None:
        label = jnp.where(label < outputs["parsing"].shape[-1], label, ignore_label)
    binary = edge_targets.binary_edge(label, edge_width, ignore_label)
    category = edge_targets.category_edge(label, binary)
    known = label != ignore_label
    targets = {
        "parsing": label,
        "binary_edge": jnp.where(known, binary, ignore_label),
        "category_edge": jnp.where(known, category, ignore_label),
    }
    logits = {name: at_label_size(outputs[name], label) for name in targets}

    def fit(name, hard_loss):
        target = targets[name]
        if teacher_outputs is None:
            return hard_loss(logits[name], target, ignore_label)
        teacher = at_label_size(teacher_outputs[name], label)
        soft = soft_targets(teacher, target, cycle, ignore_label)
        class_weights = None
        if name != "parsing":
            edge_weights = edge_class_weights(soft.shape[-1], target, ignore_label)
            class_weights = jnp.where(cycle == 0, edge_weights, 1)
        return distillation(logits[name], soft, target, ignore_label, class_weights)

    per_pixel = pixel_cross_entropy(logits["parsing"], label, ignore_label)
    terms = {
        "cross_entropy": fit("parsing", cross_entropy),
        "lovasz": lovasz_softmax(logits["parsing"], label, ignore_label, form=lovasz, mesh=mesh),
        "binary_edge": fit("binary_edge", edge_cross_entropy),
        "category_edge": fit("category_edge", edge_cross_entropy),
        "attention_binary": edge_attention(per_pixel, targets["binary_edge"], ignore_label),
        "attention_category": edge_attention(per_pixel, targets["category_edge"], ignore_label),
    }
    if groups is not None:
        teacher = None
        if teacher_outputs is not None:
            teacher = at_label_size(teacher_outputs["parsing"], label)
        terms["marginal"] = marginal_loss(
            logits["parsing"], given, groups, teacher_logits=teacher, cycle=cycle
        )
    if weak_teacher_logits is not None:
        terms["consistency"] = consistency_loss(
            logits["parsing"],
            given,
            at_label_size(weak_teacher_logits, label),
            groups=groups,
            ignore_label=ignore_label,
            confidence=confidence,
        )
    return sum(weights[name] * term for name, term in terms.items()), terms


def at_label_size(logits, label):
    """Returns `[B, h, w, C]` as `[B, H, W, C]`, H and W the label's, float32 at least."""
    return resize(widen(logits), label.shape[1:3])
