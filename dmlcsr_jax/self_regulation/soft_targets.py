"""The teacher's soft targets (arXiv 2203.14448, section 3.4)."""

import jax
import jax.numpy as jnp


def soft_targets(teacher_logits, label, m, ignore_label=255):
    """Mixes the teacher's opinion with the label: `m/(m+1) softmax + 1/(m+1) one_hot`.

    Args:
      teacher_logits: floating `[..., C]`, already of the labels' resolution.
      label: integer `[...]`, 0 to C-1 and `ignore_label`.
      m: number of students in the teacher, a non-negative integer, may be traced.
      ignore_label: label of pixels without a known class.

    Returns:
      `[..., C]`, float32 (float64 if the logits are), through which no gradient reaches the
      teacher. Sums to 1 over the classes; at ignored pixels all zeros.
    """
    dtype = jnp.promote_types(teacher_logits.dtype, jnp.float32)
    teacher = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits).astype(dtype))
    count = jnp.asarray(m, dtype)
    hard = jax.nn.one_hot(label, teacher_logits.shape[-1], dtype=dtype)
    mixed = count / (count + 1) * teacher + hard / (count + 1)
    return jnp.where((label == ignore_label)[..., None], 0, mixed)
