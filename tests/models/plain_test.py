"""What exporters are given has the numbers of what is trained."""

import numpy as np

from dmlcsr_jax.models.layers import max_pool, window_max_pool


def test_the_librarys_pool_is_ours():
    for hw in ((8, 8), (7, 9), (1, 4)):
        x = np.random.default_rng(0).normal(size=(2, *hw, 3)).astype(np.float32)
        np.testing.assert_array_equal(window_max_pool(x), max_pool(x))
