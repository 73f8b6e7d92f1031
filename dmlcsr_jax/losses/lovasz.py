"""The Lovász-softmax loss (arXiv 1705.08790)."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from dmlcsr_jax.losses.jaccard_bins import ONE, binned_steps
from dmlcsr_jax.losses.reduction import widen


def lovasz_softmax(logits, label, ignore_label=255, *, form="exact", mesh=None):
    """Lovász-softmax loss (arXiv 1705.08790) over the global batch.

    The mean, over the classes present among the valid labels, of the Lovász extension of the
    Jaccard loss at the errors |one_hot - softmax|. As in the paper, the ranking is not
    differentiated through. Equal errors rank by position; errors are ranked in float32.

    Args:
      logits: floating `[B, ..., C]`; at most 2**31 pixels.
      label: integer `[B, ...]`, 0 to C-1 and `ignore_label`.
      ignore_label: label of pixels that count for nothing.
      form: `exact` ranks the errors; `binned` counts them in fine bins, without a sort:
        loss and gradient differ by what the order inside a bin decides.
      mesh: the mesh over which the batch axis is split, of one axis. The devices then rank one
        share of the classes each, or count their own pixels; without it each would rank or count
        them all.
    """
    num_classes = logits.shape[-1]
    probabilities = jax.nn.softmax(widen(logits)).reshape(-1, num_classes).T
    label = label.reshape(1, -1)
    is_class = label == jnp.arange(num_classes)[:, None]
    errors = jnp.where(is_class, 1 - probabilities, probabilities)
    steps_of = {"exact": ranked_steps, "binned": counted_steps}[form]
    steps = steps_of(lax.stop_gradient(errors), is_class, label != ignore_label, mesh)
    present = is_class.any(1)
    # Absent classes and ignored pixels have steps of 0.
    return (errors * steps.astype(errors.dtype)).sum() / jnp.maximum(present.sum(), 1)


def ranked_steps(errors, is_class, valid, mesh):
    """Returns the steps `[C, P]` by ranking, split over the mesh by class."""
    keys = rank_keys(errors, is_class, valid)
    if mesh is None:
        return jaccard_steps(keys)
    num_classes = len(keys)
    by_class = PartitionSpec(mesh.axis_names)
    sharded = jax.shard_map(jaccard_steps, mesh=mesh, in_specs=by_class, out_specs=by_class)
    padded = jnp.pad(keys, ((0, -num_classes % mesh.size), (0, 0)))
    return sharded(padded)[:num_classes]


def counted_steps(errors, is_class, valid, mesh):
    """Returns the steps `[C, P]` by counting, split over the mesh by pixel."""
    if mesh is None:
        return binned_steps(errors, is_class, valid)
    by_pixel = PartitionSpec(None, mesh.axis_names)
    sharded = jax.shard_map(
        functools.partial(binned_steps, axes=mesh.axis_names),
        mesh=mesh,
        in_specs=by_pixel,
        out_specs=by_pixel,
    )
    return sharded(errors, is_class, valid)


def rank_keys(errors, is_class, valid):
    """Packs what ranking needs into one uint32 each: ascending is by descending error.

    Errors of 0 to 1 leave two of float32's bits free: the lowest bit says whether the pixel is of
    the class. Ignored pixels come last.
    """
    bits = lax.bitcast_convert_type(jnp.clip(errors, 0, 1).astype(jnp.float32), jnp.uint32)
    return jnp.where(valid, (ONE - bits) << 1 | is_class, jnp.uint32(0xFFFFFFFE))


def jaccard_steps(keys):
    """Returns float32 `[C, P]`: by how much each pixel, in its rank, raises the Jaccard loss.

    Class after class: one class's sort fills an accelerator, and needs a C-th of the memory.
    Sorting is most of the loss's time; `benchmarks/losses.py` compares several ways.
    """

    def one_class(keys):
        keys, position = lax.platform_dependent(keys, cpu=sort_wide_keys, default=sort_pairs)
        return at_position(steps_in_order(keys), position)

    return lax.map(one_class, keys)


def sort_pairs(keys):
    """Returns the keys `[P]` sorted and int32 `[P]`, the position each had; equal keys in order."""
    return lax.sort((keys, lax.iota(jnp.int32, keys.size)), num_keys=1, is_stable=True)


def sort_wide_keys(keys):
    """The same by sorting key and position as one uint64: several times faster on CPUs."""
    position = lax.iota(jnp.uint32, keys.size)
    with jax.enable_x64(True):
        # The low half comes first.
        wide = lax.bitcast_convert_type(jnp.stack([position, keys], -1), jnp.uint64)
        narrow = lax.bitcast_convert_type(lax.sort(wide, is_stable=False), jnp.uint32)
    return narrow[:, 1], narrow[:, 0].astype(jnp.int32)


def steps_in_order(keys):
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


def at_position(steps, position):
    """Puts each entry where `position`, a permutation, says."""
    return jnp.zeros_like(steps).at[position].set(steps, unique_indices=True)
