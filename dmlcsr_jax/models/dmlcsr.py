"""The DML-CSR network: one encoder, three task branches (arXiv 2203.14448, section 3)."""

import functools

from flax import linen as nn
from jax import lax

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models import efficientnet
from dmlcsr_jax.models.heads import ContextHead, EdgeBranch, ParsingHead
from dmlcsr_jax.models.layers import ABN, conv, max_pool, storage_dtype, window_max_pool
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.models.resnet import ARCHITECTURES, STEMS, ResNet, architecture

ENCODERS = (*ARCHITECTURES, *efficientnet.SCALES)
DTYPES = ("float32", "bfloat16", "float64")


class DMLCSR(nn.Module):
    """Face parsing network whose edge branch exists in training alone, unless it is fed back.

    Attributes:
      encoder: name of the encoder, in `ENCODERS`.
      num_classes: of the label set, background included.
      width: factor on the widths of encoder and heads.
      stem: the encoder's stem, "deep" or "conv7".
      dtype: of the computation. With "bfloat16" parameters, batch statistics, the dual graph and
        logits are float32, and outside training so are encoder and parsing head; with "float64"
        everything is float64, which needs JAX's x64 mode.
      momentum: share of the old running statistics kept in a training step; 0 makes them the
        batch's own.
      output_stride: of EfficientNet's deepest features, pixels; residual networks have 8.
      dilated: whether EfficientNet's convolutions are dilated where a stride is left out.
      dual_graph: whether the context head has the dual graph.
      edge_feedback: whether the parsing head reads the edge branch's logits, which the method
        avoids (section 3.1); the edge branch then always runs.
      multi_scale_parsing: whether the parsing head reads all depths of the encoder, x3 and x4
        beside x2, as the edge branch does.
      plain: whether convolutions and pooling are the library's own operations, which exporters
        know, instead of those that XLA is fast at; the numbers are the same.
    """

    encoder: str
    num_classes: int
    width: float = 1.0
    stem: str = "deep"
    dtype: str = "float32"
    momentum: float = 0.9
    output_stride: int = 8
    dilated: bool = True
    dual_graph: bool = True
    edge_feedback: bool = False
    multi_scale_parsing: bool = False
    plain: bool = False

    @nn.compact
    def __call__(self, images, *, train: bool, edges: bool | None = None):
        """Predicts logits at a quarter of the images' resolution.

        Args:
          images: floating `[B, H, W, 3]`, normalised as the checkpoint's metadata says.
          train: whether batch statistics normalise (and the running ones are updated, where
            "batch_stats" is mutable) instead of the running ones.
          edges: whether the edge branch runs; by default where `train` is true.

        Returns:
          A dict of float32 (float64 for dtype "float64") logits: "parsing" `[B, h, w, classes]`
          and, with edges, "binary_edge" `[B, h, w, 2]` and "category_edge" `[B, h, w, classes]`,
          where h is H / 4 rounded up, and w alike.
        """
        stored = storage_dtype(self.dtype)

        def layers(dtype):
            common = {"dtype": dtype, "param_dtype": stored}
            norm = functools.partial(
                ABN, use_running_average=not train, momentum=self.momentum, **common
            )
            convolution = {"convolve": lax.conv_general_dilated} if self.plain else {}
            return {"conv": functools.partial(conv, **common, **convolution), "norm": norm}

        # A drawn network flips a sixth of its labels where all is rounded to bfloat16; rounding in
        # the context head's large convolutions and the edge branch alone flips one in a hundred.
        rounded, accurate = layers(self.dtype), layers(self.dtype if train else stored)
        if self.encoder in efficientnet.SCALES:
            width = self.width * efficientnet.HEAD_WIDTH
            encoder = efficientnet.EfficientNetLite(
                self.encoder,
                **accurate,
                output_stride=self.output_stride,
                dilated=self.dilated,
                name="encoder",
            )
        else:
            width = self.width * architecture(self.encoder).head_width
            encoder = ResNet(
                self.encoder,
                self.stem,
                self.width,
                **accurate,
                pool=window_max_pool if self.plain else max_pool,
                name="encoder",
            )
        x2, x3, x4, x5 = encoder(images)
        context = ContextHead(**rounded, width=width, dual_graph=self.dual_graph, name="context")(
            x5
        )
        heads = {"num_classes": self.num_classes, "width": width}
        parsing = ParsingHead(**accurate, **heads, name="parsing")
        deeper = {}
        # The paper's context has x3's grid; from a coarser one details need a step between.
        if self.multi_scale_parsing or context.shape[1:3] != x3.shape[1:3]:
            deeper["middle"] = x3
        if self.multi_scale_parsing:
            deeper["deep"] = x4
        has_edges = train if edges is None else edges
        edge_logits = ()
        if has_edges or self.edge_feedback:
            edge_logits = EdgeBranch(**rounded, **heads, name="edge")(x2, x3, x4)
        fed_back = edge_logits if self.edge_feedback else ()
        outputs = {"parsing": parsing(context, x2, deeper, fed_back)}
        if has_edges:
            outputs |= dict(zip(("binary_edge", "category_edge"), edge_logits, strict=True))
        return outputs


def build_model(metadata: Metadata, dtype: str = "float32", *, plain: bool = False) -> DMLCSR:
    """Returns the network that `metadata` describes, computing in `dtype`.

    Args:
      metadata: describes the network.
      dtype: as in `DMLCSR`.
      plain: as in `DMLCSR`.

    Raises:
      UserError: where there is no such network or dtype.
    """
    for name, value, choices in (
        ("encoder", metadata.encoder, ENCODERS),
        ("stem", metadata.stem, STEMS),
        ("dtype", dtype, DTYPES),
    ):
        if value not in choices:
            raise UserError(f"{name} {value!r} is unknown: choose one of {', '.join(choices)}.")
    if metadata.encoder in efficientnet.SCALES and metadata.width != 1:
        raise UserError(f"width is {metadata.width}: {metadata.encoder} has the width 1 alone.")
    return DMLCSR(
        metadata.encoder,
        metadata.label_set.num_classes,
        metadata.width,
        metadata.stem,
        dtype,
        output_stride=metadata.output_stride,
        dilated=metadata.dilated,
        dual_graph=metadata.dual_graph,
        edge_feedback=metadata.edge_feedback,
        multi_scale_parsing=metadata.multi_scale_parsing,
        plain=plain,
    )
