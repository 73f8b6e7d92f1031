"""The dual graph of the context head (paper section 3.2; method section Network).

Both graphs reason over relations between channels, so their cost is linear in the positions.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from dmlcsr_jax.models.layers import (
    ABN,
    BatchNorm,
    Conv,
    ConvABN,
    DepthwiseConv,
    kernel_init,
    resize,
    storage_dtype,
)


def _flatten(x):
    """Joins the two spatial axes: `[B, H, W, C]` to `[B, H * W, C]`."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


class Mix(nn.Module):
    """A bias-free linear map of the last axis onto itself, PyTorch's 1x1 `Conv1d`.

    Attributes:
      dtype: of the computation and the result.
    """

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x):
        """Maps `[..., C]` to `[..., C]`."""
        features = x.shape[-1]
        kernel = self.param("kernel", kernel_init, (features, features), storage_dtype(self.dtype))
        return x.astype(self.dtype) @ kernel.astype(self.dtype)


class SpatialGraph(nn.Module):
    """Attention between channels on a grid an eighth as fine, gating the features.

    Attributes:
      states: channels of keys, values and queries.
      momentum: of the running statistics.
      dtype: of the computation and the result.
    """

    states: int
    momentum: float
    dtype: str

    @nn.compact
    def __call__(self, f, *, train: bool):
        """Maps `[B, H, W, C]` to `[B, H, W, C]`."""
        coarse = f
        for i in range(3):
            coarse = DepthwiseConv(self.dtype, name=f"reduce{i}")(coarse)
            coarse = ABN(self.momentum, self.dtype, name=f"reduce{i}_norm")(coarse, train=train)

        key, value, query = (
            _flatten(Conv(self.states, use_bias=True, dtype=self.dtype, name=name)(coarse))
            for name in ("key", "value", "query")
        )
        relation = jax.nn.softmax(jnp.einsum("bnq,bnv->bqv", query, value), axis=-1)
        out = Mix(self.dtype, name="mix")(key @ relation)
        out = BatchNorm(self.momentum, self.dtype, name="mix_norm")(out, train=train)
        out = Conv(f.shape[-1], use_bias=True, dtype=self.dtype, name="out")(
            out.reshape(*coarse.shape[:-1], self.states)
        )
        out = ABN(self.momentum, self.dtype, name="out_norm")(out, train=train)
        gamma = self.param("gamma", nn.initializers.zeros, (1,), storage_dtype(self.dtype))
        coarse = gamma.astype(self.dtype) * out + coarse
        return f * resize(coarse, f.shape[1:3]) + f


class FeatureGraph(nn.Module):
    """Projects positions onto nodes, mixes the nodes and their states, and projects back.

    Attributes:
      nodes: of the graph.
      states: of each node.
      momentum: of the running statistics.
      dtype: of the computation and the result.
    """

    nodes: int
    states: int
    momentum: float
    dtype: str

    @nn.compact
    def __call__(self, f, *, train: bool):
        """Maps `[B, H, W, C]` to `[B, H, W, C]`."""
        phi = ConvABN(self.states, 1, self.momentum, self.dtype, name="phi")(f, train=train)
        theta = ConvABN(self.nodes, 1, self.momentum, self.dtype, name="theta")(f, train=train)
        phi, theta = _flatten(phi), _flatten(theta)
        z = jnp.einsum("bps,bpn->bsn", phi, theta)
        mixed = Mix(self.dtype, name="mix_nodes")(z)
        z = BatchNorm(self.momentum, self.dtype, name="mix_nodes_norm")(mixed, train=train) + z
        z = Mix(self.dtype, name="mix_states")(z.swapaxes(1, 2))
        z = BatchNorm(self.momentum, self.dtype, name="mix_states_norm")(z, train=train)
        y = (theta @ z).reshape(*f.shape[:-1], self.states)
        y = ConvABN(f.shape[-1], 1, self.momentum, self.dtype, name="out")(y, train=train)
        gamma = self.param("gamma", nn.initializers.zeros, (1,), storage_dtype(self.dtype))
        return gamma.astype(self.dtype) * y + f


class DualGraph(nn.Module):
    """The spatial and the feature graph side by side, joined by a 1x1 convolution.

    Attributes:
      nodes: of the feature graph.
      states: of either graph.
      momentum: of the running statistics.
      dtype: of the computation and the result.
    """

    nodes: int
    states: int
    momentum: float
    dtype: str

    @nn.compact
    def __call__(self, f, *, train: bool):
        """Maps `[B, H, W, C]` to `[B, H, W, C]`."""
        spatial = SpatialGraph(self.states, self.momentum, self.dtype, name="spatial")
        feature = FeatureGraph(self.nodes, self.states, self.momentum, self.dtype, name="feature")
        joined = jnp.concatenate([spatial(f, train=train), feature(f, train=train)], axis=-1)
        return ConvABN(f.shape[-1], 1, self.momentum, self.dtype, name="join")(joined, train=train)
