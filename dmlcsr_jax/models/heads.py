"""The task branches: context and parsing head, and the edge branch (method section Network)."""

import jax.numpy as jnp
from flax import linen as nn

from dmlcsr_jax.models.dual_graph import DualGraph
from dmlcsr_jax.models.layers import Conv, ConvABN, resize, storage_dtype
from dmlcsr_jax.models.resnet import scaled


class ContextHead(nn.Module):
    """Reasons over the deepest features with the dual graph (DDGCN).

    Attributes:
      width: factor on the paper's channel counts (512 features, 256 states, 128 nodes).
      momentum: of the running statistics.
      dtype: of the convolutions and the result; the graph runs in float32 at least.
    """

    width: float
    momentum: float
    dtype: str

    @nn.compact
    def __call__(self, x5, *, train: bool):
        """Maps x5 `[B, h, w, C]` to the context `[B, h, w, 512 * width]`."""
        features = scaled(512, self.width)
        f = ConvABN(features, 3, self.momentum, self.dtype, name="conv_in")(x5, train=train)
        f = DualGraph(
            nodes=scaled(128, self.width),
            states=scaled(256, self.width),
            momentum=self.momentum,
            # Its sums over thousands of positions lose digits in bfloat16, and cost little.
            dtype=str(storage_dtype(self.dtype)),
            name="graph",
        )(f, train=train)
        f = ConvABN(features, 3, self.momentum, self.dtype, name="conv_out")(f, train=train)
        f = jnp.concatenate([x5, f], axis=-1)
        return ConvABN(features, 3, self.momentum, self.dtype, name="bottleneck")(f, train=train)


class ParsingHead(nn.Module):
    """Joins context and low-level features and classifies every position.

    Attributes:
      num_classes: of the label set.
      width: factor on the paper's channel counts (256, and 48 for the low-level features).
      momentum: of the running statistics.
      dtype: of the computation; the classifier runs in float32 at least.
    """

    num_classes: int
    width: float
    momentum: float
    dtype: str

    @nn.compact
    def __call__(self, context, x2, *, train: bool):
        """Maps the context `[B, h, w, C]` and x2 `[B, H, W, C']` to logits `[B, H, W, classes]`."""
        features = scaled(256, self.width)

        def conv_abn(features, name):
            return ConvABN(features, 1, self.momentum, self.dtype, name=name)

        context = conv_abn(features, "context")(context, train=train)
        low = conv_abn(scaled(48, self.width), "low")(x2, train=train)
        x = jnp.concatenate([resize(context, x2.shape[1:3]), low], axis=-1)
        x = conv_abn(features, "fuse0")(x, train=train)
        x = conv_abn(features, "fuse1")(x, train=train)
        stored = storage_dtype(self.dtype)
        return Conv(self.num_classes, use_bias=True, dtype=stored, name="logits")(x)


class EdgeBranch(nn.Module):
    """Predicts binary and category edges from three depths of the encoder; training only.

    Attributes:
      num_classes: of the label set.
      width: factor on the paper's 256 channels.
      momentum: of the running statistics.
      dtype: of the computation; the classifiers run in float32 at least.
    """

    num_classes: int
    width: float
    momentum: float
    dtype: str

    @nn.compact
    def __call__(self, x2, x3, x4, *, train: bool):
        """Maps three `[B, ., ., .]` features to binary and category logits at x2's size.

        Returns:
          `[B, H, W, 2]` and `[B, H, W, classes]`.
        """
        features = scaled(256, self.width)
        stored = storage_dtype(self.dtype)
        shared = Conv(self.num_classes, 3, use_bias=True, dtype=self.dtype, name="shared")
        logits = []
        for name, x in (("x2", x2), ("x3", x3), ("x4", x4)):
            x = ConvABN(features, 1, self.momentum, self.dtype, name=name)(x, train=train)
            logits.append(resize(shared(x), x2.shape[1:3]))
        x = jnp.concatenate(logits, axis=-1)
        binary = Conv(2, use_bias=True, dtype=stored, name="binary_logits")
        category = Conv(self.num_classes, use_bias=True, dtype=stored, name="category_logits")
        return binary(x), category(x)
