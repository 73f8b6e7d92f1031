"""How the layers' variables start, and fresh variables drawn on the host.

`model.init` draws them too, but XLA takes half a minute on two cores to compile one generator per
tensor. NumPy's draws need no compiling and are the same on every device.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def he_normal(key, shape, dtype=jnp.float32):
    """Draws a kernel `[..., fan_in, features]` from a normal of variance `2 / fan_in`, not cut off.

    Args:
      key: a JAX key, as Flax hands it over, or a NumPy generator.
      shape: of the kernel; the fan-in is the product of all axes but the last.
      dtype: of the kernel.
    """
    if isinstance(key, np.random.Generator):
        draws = key.standard_normal(shape, np.float32)
    else:
        draws = jax.random.normal(key, shape, dtype)
    return (draws * np.sqrt(2.0 / np.prod(shape[:-1]))).astype(dtype)


# By a variable's name. The layers declare these, and `initial_variables` calls the same.
INITIALIZERS = {
    "kernel": he_normal,
    "bias": nn.initializers.zeros,
    "scale": nn.initializers.ones,
    "gamma": nn.initializers.zeros,
    "mean": nn.initializers.zeros,
    "var": nn.initializers.ones,
}


def initial_variables(model, seed, image_size):
    """Draws a network's variables from the initialisers that its layers declare.

    Args:
      model: a `DMLCSR`.
      seed: an integer, 0 or more. Each tensor's draw depends on it and on the tensor's name
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
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        return np.asarray(INITIALIZERS[path[-1].key](rng, leaf.shape, leaf.dtype))

    return jax.tree_util.tree_map_with_path(draw, variables)
