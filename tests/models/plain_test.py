"""What exporters are given has the numbers of what is trained."""

import jax
import jax.numpy as jnp
import numpy as np

from dmlcsr_jax.models import efficientnet
from dmlcsr_jax.models.layers import max_pool, window_max_pool


def test_the_clip_is_relu6_in_value_and_gradient_also_at_its_corners():
    x = jnp.array([-1.0, 0.0, 1e-6, 3.0, 6.0, 7.0])
    for derivative in (lambda f: jax.vmap(f), lambda f: jax.vmap(jax.grad(f))):
        expected = derivative(jax.nn.relu6)(x)
        np.testing.assert_array_equal(derivative(efficientnet._relu6)(x), expected)


def test_the_librarys_pool_is_ours():
    for hw in ((8, 8), (7, 9), (1, 4)):
        x = np.random.default_rng(0).normal(size=(2, *hw, 3)).astype(np.float32)
        np.testing.assert_array_equal(window_max_pool(x), max_pool(x))
