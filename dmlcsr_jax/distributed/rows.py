"""The rows of a batch that a process holds."""

import jax
import numpy as np


def local_rows(array: jax.Array) -> np.ndarray:
    """Returns the rows of a batch that this process holds, in order.

    Args:
      array: `[global batch, ...]`, on one device or split over its first axis.

    Returns:
      `[local batch, ...]`, the rows this process put into the batch.
    """
    if array.is_fully_addressable:
        return np.asarray(array)
    by_start = {shard.index[0].start or 0: shard for shard in array.addressable_shards}
    return np.concatenate([np.asarray(by_start[start].data) for start in sorted(by_start)])
