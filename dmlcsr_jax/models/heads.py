"""The task branches: context and parsing head, and the edge branch (method section Network)."""

import functools

import jax.numpy as jnp
from flax import linen as nn

from dmlcsr_jax.models.dual_graph import DualGraph
from dmlcsr_jax.models.layers import ConvABN, ModuleDef, resize
from dmlcsr_jax.models.resnet import scaled


class ContextHead(nn.Module):
    """Reasons over the deepest features with the dual graph (DDGCN).

    Attributes:
      conv: partial of `layers.conv`.
      norm: partial of `layers.ABN`.
      width: factor on the paper's channel counts (512 features, 256 states, 128 nodes).
      dual_graph: whether the graph is there; without it the convolutions around it remain.
    """

    conv: ModuleDef
    norm: ModuleDef
    width: float
    dual_graph: bool = True

    @nn.compact
    def __call__(self, x5):
        """Maps x5 `[B, h, w, C]` to the context `[B, h, w, 512 * width]`."""
        conv_abn = functools.partial(ConvABN, self.conv, self.norm, scaled(512, self.width), 3)
        f = conv_abn(name="conv_in")(x5)
        if self.dual_graph:
            f = DualGraph(
                # Its sums over thousands of positions lose digits in bfloat16, and cost little.
                functools.partial(self.conv, dtype=None),
                functools.partial(self.norm, dtype=None),
                nodes=scaled(128, self.width),
                states=scaled(256, self.width),
                name="graph",
            )(f)
        f = conv_abn(name="conv_out")(f)
        return conv_abn(name="bottleneck")(jnp.concatenate([x5, f], axis=-1))


class ParsingHead(nn.Module):
    """Joins context and low-level features and classifies every position.

    Attributes:
      conv: partial of `layers.conv`.
      norm: partial of `layers.ABN`.
      num_classes: of the label set.
      width: factor on the paper's channel counts (256, and 48 for the low-level features).
    """

    conv: ModuleDef
    norm: ModuleDef
    num_classes: int
    width: float

    @nn.compact
    def __call__(self, context, x2, deeper, edges=()):
        """Maps the context `[B, h, w, C]` and x2 `[B, H, W, C']` to logits `[B, H, W, classes]`.

        `deeper` are further features `[B, ., ., .]` of the encoder by the names of their
        convolutions. `edges`, each `[B, H, W, .]`, come in where the edge branch's logits are fed
        back.
        """
        features = scaled(256, self.width)
        conv_abn = functools.partial(ConvABN, self.conv, self.norm)
        context = conv_abn(features, name="context")(context)
        low = conv_abn(scaled(48, self.width), name="low")(x2)
        parts = [resize(context, x2.shape[1:3]), low]
        for name, x in deeper.items():
            x = conv_abn(scaled(48, self.width), name=name)(x)
            parts.append(resize(x, x2.shape[1:3]))
        parts += [edge.astype(low.dtype) for edge in edges]
        x = jnp.concatenate(parts, axis=-1)
        x = conv_abn(features, name="fuse0")(x)
        x = conv_abn(features, name="fuse1")(x)
        # Without a dtype: in the parameters', where activations are bfloat16.
        return self.conv(self.num_classes, use_bias=True, dtype=None, name="logits")(x)


class EdgeBranch(nn.Module):
    """Predicts binary and category edges from three depths of the encoder; training only.

    Attributes:
      conv: partial of `layers.conv`.
      norm: partial of `layers.ABN`.
      num_classes: of the label set.
      width: factor on the paper's 256 channels.
    """

    conv: ModuleDef
    norm: ModuleDef
    num_classes: int
    width: float

    @nn.compact
    def __call__(self, x2, x3, x4):
        """Maps three `[B, ., ., .]` features to binary and category logits at x2's size.

        Returns:
          `[B, H, W, 2]` and `[B, H, W, classes]`.
        """
        conv_abn = functools.partial(ConvABN, self.conv, self.norm, scaled(256, self.width))
        shared = self.conv(self.num_classes, 3, use_bias=True, name="shared")
        logits = [
            resize(shared(conv_abn(name=name)(x)), x2.shape[1:3])
            for name, x in (("x2", x2), ("x3", x3), ("x4", x4))
        ]
        x = jnp.concatenate(logits, axis=-1)
        classify = functools.partial(self.conv, use_bias=True, dtype=None)
        binary = classify(2, name="binary_logits")
        category = classify(self.num_classes, name="category_logits")
        return binary(x), category(x)
