"""Fresh variables, drawn on the host.

`model.init` draws them too, but XLA takes half a minute on two cores to compile one generator per
tensor. NumPy's draws need no compiling and are the same on every device.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np


def initial_variables(model, seed, image_size):
    """Draws a network's variables: kernels He-normal, scales and variances 1, all else 0.

    Args:
      model: a `DMLCSR`.
      seed: whole number, 0 or more. Each tensor's draw depends on it and on the tensor's name
        alone, so that networks that differ in one part share the others.
      image_size: side of the square input, pixels.

    Returns:
      `{"params", "batch_stats"}` of NumPy arrays, as `model.init(..., train=True)` lays them out.
    """
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda images: model.init(jax.random.key(0), images, train=True), images
    )

    def draw(path, leaf):
        kind = path[-1].key
        if kind in ("scale", "var"):
            return np.ones(leaf.shape, leaf.dtype)
        if kind != "kernel":
            return np.zeros(leaf.shape, leaf.dtype)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        deviation = np.sqrt(2.0 / np.prod(leaf.shape[:-1]))
        return (rng.standard_normal(leaf.shape, np.float32) * deviation).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, variables)
