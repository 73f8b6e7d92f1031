"""The complete program as one StableHLO artifact of `jax.export`, for every platform of JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def make_stablehlo(
    program: Callable[[Any], jax.Array], hw: tuple[int, int] | None = None
) -> bytearray:
    """Returns what `jax.export.deserialize` takes; its `call(images)` is the program.

    JAX reads it for at least six months of later versions.

    Args:
      program: as `program.make_program` returns it.
      hw: height and width of the photographs; None: any. Their number is free either way.
    """
    height, width = hw or ("h", "w")
    shape = export.symbolic_shape(f"b, {height}, {width}, 3")
    images = jax.ShapeDtypeStruct(shape, jnp.uint8)
    return export.export(jax.jit(program), platforms=PLATFORMS)(images).serialize()
