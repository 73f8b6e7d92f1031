"""The dual graph of the context head (paper section 3.2; method section Network).

Both graphs reason over relations between channels, so their cost is linear in the positions. They
compute in their parameters' precision.

| symbol | shape | meaning |
|---|---|---|
| f | [B, H, W, C] | features of the context head |
| l | [B, H/8, W/8, C] | f after three strided depthwise convolutions |
| k, v, q | [N, S] | key, value, query: 1x1 convolutions of l at its N positions |
| A | [S, S] | relation of the S states |
| phi, theta | [P, S], [P, M] | states and nodes at the P positions of f |
| z | [S, M] | states of the M nodes |
| gamma, gamma1 | scalar | learned, 0 at first |

Spatial graph, `out` by 1x1 convolutions:

    A = softmax(q^T v)             over the last axis
    l' = gamma out(k A) + l
    s = resize(l') f + f

Feature graph, `mix` linear over nodes or states:

    z = phi^T theta
    z = bn(mix_nodes(z)) + z
    z = bn(mix_states(z))
    g = gamma1 out(z theta^T) + f

Together: join([s, g]), a 1x1 convolution.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from dmlcsr_jax.models.initial import INITIALIZERS
from dmlcsr_jax.models.layers import ConvABN, ModuleDef, resize


def _flatten(x):
    """Joins the two spatial axes: `[B, H, W, C]` to `[B, H * W, C]`."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _mix(x, name):
    """A bias-free linear map of the last axis onto itself, PyTorch's 1x1 `Conv1d`."""
    return nn.Dense(
        x.shape[-1],
        use_bias=False,
        param_dtype=x.dtype,
        kernel_init=INITIALIZERS["kernel"],
        name=name,
    )(x)


class SpatialGraph(nn.Module):
    """Attention between channels on a grid an eighth as fine, gating the features.

    Attributes:
      conv: partial of `layers.conv`.
      norm: partial of `layers.ABN`.
      states: channels of keys, values and queries.
    """

    conv: ModuleDef
    norm: ModuleDef
    states: int

    @nn.compact
    def __call__(self, f):
        """Maps `[B, H, W, C]` to `[B, H, W, C]`."""
        coarse, channels = f, f.shape[-1]
        for i in range(3):
            reduce = self.conv(channels, 3, stride=2, groups=channels, name=f"reduce{i}")
            coarse = self.norm(name=f"reduce{i}_norm")(reduce(coarse))

        key, value, query = (
            _flatten(self.conv(self.states, use_bias=True, name=name)(coarse))
            for name in ("key", "value", "query")
        )
        relation = jax.nn.softmax(jnp.einsum("bnq,bnv->bqv", query, value), axis=-1)
        out = _mix(key @ relation, "mix")
        out = self.norm(activated=False, name="mix_norm")(out)
        out = out.reshape(*coarse.shape[:-1], self.states)
        out = self.conv(channels, use_bias=True, name="out")(out)
        out = self.norm(name="out_norm")(out)
        gamma = self.param("gamma", INITIALIZERS["gamma"], (1,), out.dtype)
        coarse = gamma * out + coarse
        return f * resize(coarse, f.shape[1:3]) + f


class FeatureGraph(nn.Module):
    """Projects positions onto nodes, mixes the nodes and their states, and projects back.

    Attributes:
      conv: partial of `layers.conv`.
      norm: partial of `layers.ABN`.
      nodes: of the graph.
      states: of each node.
    """

    conv: ModuleDef
    norm: ModuleDef
    nodes: int
    states: int

    @nn.compact
    def __call__(self, f):
        """Maps `[B, H, W, C]` to `[B, H, W, C]`."""
        conv_abn = functools.partial(ConvABN, self.conv, self.norm)
        norm = functools.partial(self.norm, activated=False)
        phi = _flatten(conv_abn(self.states, name="phi")(f))
        theta = _flatten(conv_abn(self.nodes, name="theta")(f))
        z = jnp.einsum("bps,bpn->bsn", phi, theta)
        z = norm(name="mix_nodes_norm")(_mix(z, "mix_nodes")) + z
        z = norm(name="mix_states_norm")(_mix(z.swapaxes(1, 2), "mix_states"))
        y = (theta @ z).reshape(*f.shape[:-1], self.states)
        y = conv_abn(f.shape[-1], name="out")(y)
        gamma = self.param("gamma", INITIALIZERS["gamma"], (1,), y.dtype)
        return gamma * y + f


class DualGraph(nn.Module):
    """The spatial and the feature graph side by side, joined by a 1x1 convolution.

    Attributes:
      conv: partial of `layers.conv`.
      norm: partial of `layers.ABN`.
      nodes: of the feature graph.
      states: of either graph.
    """

    conv: ModuleDef
    norm: ModuleDef
    nodes: int
    states: int

    @nn.compact
    def __call__(self, f):
        """Maps `[B, H, W, C]` to `[B, H, W, C]`."""
        spatial = SpatialGraph(self.conv, self.norm, self.states, name="spatial")
        feature = FeatureGraph(self.conv, self.norm, self.nodes, self.states, name="feature")
        joined = jnp.concatenate([spatial(f), feature(f)], axis=-1)
        return ConvABN(self.conv, self.norm, f.shape[-1], name="join")(joined)
