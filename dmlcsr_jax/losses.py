"""The training objective (arXiv 2203.14448, section 3; method, "Losses").

Every loss is a scalar of float32, float64 where the logits are, finite and with finite gradients
whatever the labels: with nothing to average over it is 0. Pixels of the ignore label carry neither
loss nor gradient, and where a pixel's own label is ignored its edge targets are ignored too.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from dmlcsr_jax.data import edges
from dmlcsr_jax.models.layers import resize
from dmlcsr_jax.self_regulation import soft_targets


def objective(
    outputs,
    label,
    *,
    weights,
    edge_width=1,
    ignore_label=255,
    teacher_outputs=None,
    cycle=0,
    mesh=None,
):
    """Computes the weighted sum of all terms and each term by itself.

    Args:
      outputs: the student's logits, floating, of any resolution: `parsing` `[B, h, w, C]`,
        `binary_edge` `[B, h, w, 2]`, `category_edge` `[B, h, w, C]`.
      label: int32 `[B, H, W]`, 0 to C-1 and `ignore_label`.
      weights: mapping from each of `cross_entropy`, `lovasz`, `binary_edge`, `category_edge`,
        `attention_binary`, `attention_category` to its factor in the total.
      edge_width: dilation of the edge targets, as in `edges.binary_edge`.
      ignore_label: label of pixels without a known class.
      teacher_outputs: the teacher's logits, as `outputs`; None trains on the labels alone. With a
        teacher the three cross-entropies become `distillation` towards `soft_targets`. Its edges
        then weigh all pixels alike; only with a teacher of no students (`cycle` 0) do they keep
        the class weights, so that the terms are those of the labels alone.
      cycle: m, the number of students in the teacher, may be traced; without a teacher unused.
      mesh: the mesh over which the batch is split, for `lovasz_softmax`; None for one device.

    Returns:
      The total, a scalar, and a dict from each term's name to its unweighted scalar.
    """
    binary = edges.binary_edge(label, edge_width, ignore_label)
    category = edges.category_edge(label, binary)
    known = label != ignore_label
    targets = {
        "parsing": label,
        "binary_edge": jnp.where(known, binary, ignore_label),
        "category_edge": jnp.where(known, category, ignore_label),
    }
    logits = {name: _at_label_size(outputs[name], label) for name in targets}

    def fit(name, hard_loss, class_weights=None):
        target = targets[name]
        if teacher_outputs is None:
            return hard_loss(logits[name], target, ignore_label)
        teacher = _at_label_size(teacher_outputs[name], label)
        soft = soft_targets(teacher, target, cycle, ignore_label)
        if class_weights is not None:
            class_weights = jnp.where(cycle == 0, class_weights(soft.shape[-1], target), 1)
        return distillation(logits[name], soft, target, ignore_label, class_weights)

    edge_weights = functools.partial(_edge_class_weights, ignore_label=ignore_label)
    per_pixel = pixel_cross_entropy(logits["parsing"], label, ignore_label)
    terms = {
        "cross_entropy": fit("parsing", cross_entropy),
        "lovasz": lovasz_softmax(logits["parsing"], label, ignore_label, mesh=mesh),
        "binary_edge": fit("binary_edge", edge_cross_entropy, edge_weights),
        "category_edge": fit("category_edge", edge_cross_entropy, edge_weights),
        "attention_binary": edge_attention(per_pixel, targets["binary_edge"], ignore_label),
        "attention_category": edge_attention(per_pixel, targets["category_edge"], ignore_label),
    }
    return sum(weights[name] * term for name, term in terms.items()), terms


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


def edge_attention(per_pixel, edge, ignore_label=255):
    """Dual edge attention: the parsing cross-entropy of edge pixels (section 3.3).

    Args:
      per_pixel: floating `[B, H, W]`, as `pixel_cross_entropy` returns it for the parsing logits.
      edge: integer `[B, H, W]`, binary or category edge; above 0 and not `ignore_label` is an edge.
      ignore_label: value of pixels without a known edge.

    Returns:
      The mean over each image's edge pixels, averaged over the images; an image without edges adds
      0 and is counted.
    """
    is_edge = (edge > 0) & (edge != ignore_label)
    return jax.vmap(_mean)(per_pixel, is_edge).mean()


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
    logits = _widen(logits)
    targets = lax.stop_gradient(targets).astype(logits.dtype)
    divergence = -(targets * jax.nn.log_softmax(logits) + jax.scipy.special.entr(targets)).sum(-1)
    valid = label != ignore_label
    pixel_weights = valid if class_weights is None else _pick(class_weights, label)
    return _mean(jnp.where(valid, divergence, 0), pixel_weights)


def lovasz_softmax(logits, label, ignore_label=255, *, mesh=None):
    """Lovász-softmax loss (arXiv 1705.08790) over the whole global batch.

    The mean, over the classes present among the valid labels, of the Lovász extension of the
    Jaccard loss at the errors |one_hot - softmax|. As in the paper, the ranking is not
    differentiated through. Equal errors rank by position; errors are ranked in float32.

    Args:
      logits: floating `[B, ..., C]`; at most 2**31 pixels.
      label: integer `[B, ...]`, 0 to C-1 and `ignore_label`.
      ignore_label: label of pixels that count for nothing.
      mesh: the mesh over which the batch axis is split, of one axis. The devices then rank one
        share of the classes each; without it each would rank them all.
    """
    num_classes = logits.shape[-1]
    probabilities = jax.nn.softmax(_widen(logits)).reshape(-1, num_classes).T
    label = label.reshape(1, -1)
    is_class = label == jnp.arange(num_classes)[:, None]
    errors = jnp.where(is_class, 1 - probabilities, probabilities)
    keys = _rank_keys(lax.stop_gradient(errors), is_class, label != ignore_label)
    if mesh is None:
        jaccard_steps = _jaccard_steps(keys)
    else:
        by_class = PartitionSpec(mesh.axis_names)
        share = jax.shard_map(_jaccard_steps, mesh=mesh, in_specs=by_class, out_specs=by_class)
        whole_shares = jnp.pad(keys, ((0, -num_classes % mesh.size), (0, 0)))
        jaccard_steps = share(whole_shares)[:num_classes]
    present = is_class.any(1)
    # Absent classes and ignored pixels have steps of 0.
    return (errors * jaccard_steps.astype(errors.dtype)).sum() / jnp.maximum(present.sum(), 1)


_ONE = 0x3F800000  # the bits of 1.0 in float32; those of smaller positive numbers order like them


def _rank_keys(errors, is_class, valid):
    """Packs what ranking needs into one uint32 each: ascending is by descending error.

    Errors of 0 to 1 leave two of float32's bits free: the lowest bit says whether the pixel is of
    the class. Ignored pixels come last.
    """
    bits = lax.bitcast_convert_type(jnp.clip(errors, 0, 1).astype(jnp.float32), jnp.uint32)
    return jnp.where(valid, (_ONE - bits) << 1 | is_class, jnp.uint32(0xFFFFFFFE))


def _jaccard_steps(keys):
    """Returns float32 `[C, P]`: by how much each pixel, in its rank, raises the Jaccard loss.

    Class after class: one class's sort fills an accelerator, and needs a C-th of the memory.
    Sorting is most of the loss's time; `benchmarks/losses.py` compares several ways.
    """

    def one_class(keys):
        keys, position = lax.platform_dependent(keys, cpu=_sort_wide_keys, default=_sort_pairs)
        return _at_position(_steps_in_order(keys), position)

    return lax.map(one_class, keys)


def _sort_pairs(keys):
    """Returns the keys `[P]` sorted and int32 `[P]`, the position each had; equal keys in order."""
    return lax.sort((keys, lax.iota(jnp.int32, keys.size)), num_keys=1, is_stable=True)


def _sort_wide_keys(keys):
    """The same by sorting key and position as one uint64: several times faster on CPUs."""
    position = lax.iota(jnp.uint32, keys.size)
    with jax.enable_x64(True):
        # The low half comes first.
        wide = lax.bitcast_convert_type(jnp.stack([position, keys], -1), jnp.uint64)
        narrow = lax.bitcast_convert_type(lax.sort(wide, is_stable=False), jnp.uint32)
    return narrow[:, 1], narrow[:, 0].astype(jnp.int32)


def _steps_in_order(keys):
    """Returns the steps of one class's sorted keys.

    With G pixels of the class, a of them and b others ranked so far, the loss is
    1 - (G-a)/(G+b). In float32 a difference of neighbours is soon below that number's last digit
    (at 28 images of 473x473 pixels a quarter of the steps vanish); in closed form none is: 1/(G+b)
    at a pixel of the class, (G-a)/((G+b)(G+b-1)) elsewhere.
    """
    is_class = (keys & 1).astype(jnp.int32)
    ranked = jnp.cumsum(is_class)
    others = jnp.arange(1, keys.size + 1) - ranked
    union = (ranked[-1] + others).astype(jnp.float32)
    missed = (ranked[-1] - ranked).astype(jnp.float32)
    return jnp.where(is_class == 1, 1 / union, missed / union / jnp.maximum(union - 1, 1))


def _at_position(steps, position):
    """Puts each entry where `position`, a permutation, says."""
    return jnp.zeros_like(steps).at[position].set(steps, unique_indices=True)


def _widen(logits):
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _at_label_size(logits, label):
    return resize(_widen(logits), label.shape[1:3])


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
