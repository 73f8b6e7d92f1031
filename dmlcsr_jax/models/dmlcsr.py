"""The DML-CSR network: one encoder, three task branches (arXiv 2203.14448, section 3)."""

from flax import linen as nn

from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.heads import ContextHead, EdgeBranch, ParsingHead
from dmlcsr_jax.models.layers import storage_dtype
from dmlcsr_jax.models.resnet import STEMS, ResNet, architecture

DTYPES = ("float32", "bfloat16", "float64")


class DMLCSR(nn.Module):
    """Face parsing network whose edge branch exists in training alone.

    Attributes:
      encoder: name of the encoder, see `resnet.ARCHITECTURES`.
      num_classes: of the label set, background included.
      width: factor on the widths of encoder and heads.
      stem: the encoder's stem, "deep" or "conv7".
      dtype: of the computation. With "bfloat16" parameters, batch statistics, the dual graph and
        logits are float32, and outside training so are encoder and parsing head; with "float64"
        everything is float64, which needs JAX's x64 mode.
      momentum: share of the old running statistics kept in a training step; 0 makes them the
        batch's own.
    """

    encoder: str
    num_classes: int
    width: float = 1.0
    stem: str = "deep"
    dtype: str = "float32"
    momentum: float = 0.9

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
        # A drawn network flips a sixth of its labels where all is rounded to bfloat16; rounding in
        # the context head's large convolutions and the edge branch alone flips one in a hundred.
        dtype = self.dtype if train else str(storage_dtype(self.dtype))
        encoder = ResNet(self.encoder, self.stem, self.width, self.momentum, dtype, name="encoder")
        x2, x3, x4, x5 = encoder(images, train=train)
        width = self.width * architecture(self.encoder).head_width
        context = ContextHead(width, self.momentum, self.dtype, name="context")(x5, train=train)
        parsing = ParsingHead(self.num_classes, width, self.momentum, dtype, name="parsing")
        outputs = {"parsing": parsing(context, x2, train=train)}
        if train if edges is None else edges:
            edge = EdgeBranch(self.num_classes, width, self.momentum, self.dtype, name="edge")
            binary, category = edge(x2, x3, x4, train=train)
            outputs |= {"binary_edge": binary, "category_edge": category}
        return outputs


def build(encoder, num_classes, *, width=1.0, stem=None, dtype="float32", momentum=0.9):
    """Builds the network from configuration values.

    Args:
      encoder: "resnet101", "resnet50", "resnet18" or "tiny".
      num_classes: at least 2.
      width: positive factor on all widths.
      stem: "deep" or "conv7"; "deep", the paper's, by default.
      dtype: "float32", "bfloat16" or "float64".
      momentum: of the running batch statistics.

    Returns:
      A `DMLCSR` module.

    Raises:
      UserError: where a value is not one of these.
    """
    architecture(encoder)
    stem = stem or STEMS[0]
    if stem not in STEMS:
        raise UserError(f"stem {stem!r} is unknown: choose one of {', '.join(STEMS)}.")
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown: choose one of {', '.join(DTYPES)}.")
    if num_classes < 2:
        raise UserError(f"num_classes is {num_classes}: face parsing needs at least 2 classes.")
    if width <= 0:
        raise UserError(f"width is {width}: it must be positive.")
    return DMLCSR(encoder, num_classes, width, stem, dtype, momentum)


def build_model(metadata: Metadata, dtype: str = "float32"):
    """Returns the network that `metadata` describes, computing in `dtype`.

    Raises:
      UserError: where there is no such network or dtype.
    """
    return build(
        metadata.encoder,
        metadata.label_set.num_classes,
        width=metadata.width,
        stem=metadata.stem,
        dtype=dtype,
    )
