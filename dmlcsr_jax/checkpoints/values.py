"""Whether tensors can be those of a network that works."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dmlcsr_jax.errors import UserError

_VARIANCE = "var"


def require_possible_values(tensors: Mapping[str, Any], name: str) -> None:
    """Refuses weights with which every pixel of every photograph would get the same label.

    Args:
      tensors: arrays by name, of `params` and `batch_stats`; the last part of the name of a running
        variance is `var`, or `running_var` as in PyTorch.
      name: of the file or folder that they are from, for the message.

    Raises:
      UserError: names the first tensor that is not finite, or a variance below 0.
    """
    for tensor, value in tensors.items():
        value = value if isinstance(value, np.ndarray) else _complete(value)
        if not np.isfinite(value).all():
            count = value.size - np.isfinite(value).sum()
            raise UserError(
                f"{name}: the tensor {tensor} has {count:,} of {value.size:,} values that are not "
                "finite; get the weights again, or take those of an earlier checkpoint."
            )
        if tensor.replace("_", "/").split("/")[-1] == _VARIANCE and (value < 0).any():
            raise UserError(
                f"{name}: the tensor {tensor} has the variance {value.min():g}, which is below 0; "
                "get the weights again."
            )


def _complete(array) -> np.ndarray:
    # Imported here: an exported network is checked without JAX.
    from dmlcsr_jax.distributed.sharding import complete_array

    return complete_array(array)
