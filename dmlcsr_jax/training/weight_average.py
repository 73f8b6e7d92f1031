"""The exponential average of the student's weights, which is evaluated in their place."""

import jax
import jax.numpy as jnp


def update_average(average, variables, decay: float, step):
    """Takes the weights after a step into their exponential average.

    Early in a run the decay is less, `(1 + step) / (10 + step)`, so that the first weights are
    soon forgotten.

    Args:
      average: `{"params", "batch_stats"}`, the average so far.
      variables: the same trees after this step.
      decay: share of the average that is kept, at most.
      step: optimisation steps made before this one, may be traced.

    Returns:
      The average, in its own dtypes.
    """
    kept = jnp.minimum(decay, (1 + step) / (10 + step))

    def mix(old, new):
        share = kept.astype(old.dtype)
        return share * old + (1 - share) * new

    return jax.tree.map(mix, average, variables)
