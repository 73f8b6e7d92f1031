"""Cyclical self-regulation: the averaged teacher and its soft targets (arXiv 2203.14448, 3.4)."""

import jax
import jax.numpy as jnp


def average(teacher, student, m):
    """Takes the student of cycle `m` into the teacher: `m/(m+1) teacher + 1/(m+1) student`.

    Called at the end of cycles 0, 1, 2, ... it keeps the plain mean of the students so far.

    Args:
      teacher: tree of floating arrays, the mean of `m` students; must be finite but has no other
        influence where `m` is 0.
      student: tree of the same structure and shapes.
      m: number of students already in the teacher, a non-negative integer, may be traced.

    Returns:
      Tree of the teacher's structure and dtypes.
    """

    def mean(t, s):
        count = jnp.asarray(m, t.dtype)
        return (count / (count + 1) * t + s.astype(t.dtype) / (count + 1)).astype(t.dtype)

    return jax.tree.map(mean, teacher, student)


def replace(teacher, student, m):
    """Returns the student, for comparison with `average`, whose arguments these are."""
    del m
    return jax.tree.map(lambda t, s: s.astype(t.dtype), teacher, student)


def accumulate_statistics(stats, batch_stats, k):
    """Takes one batch's statistics into their cumulative mean over the training set.

    Args:
      stats: tree of floating arrays, the mean of the statistics of `k` batches; zeros at first.
      batch_stats: tree of the same structure: one batch's means and variances, as the network
        computes them with momentum 0.
      k: number of batches already in `stats`, a non-negative integer, may be traced.

    Returns:
      Tree of the same structure: the mean of the statistics of `k + 1` batches. Variances are
      averaged as they are: the spread of the means between batches is not added.
    """
    return average(stats, batch_stats, k)
