"""Encoders: dilated residual networks of the method's family (method section Network, Encoder)."""

import dataclasses
from collections.abc import Callable

from flax import linen as nn
from jax import numpy as jnp

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.layers import ModuleDef, max_pool

STEMS = ("deep", "conv7")
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 1, 2)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What tells one encoder from another.

    Attributes:
      bottleneck: whether blocks are 1x1, 3x3, 1x1 with four times the planes out, or two 3x3.
      stem: channels of the three stem convolutions; the 7x7 stem has the first number's.
      planes: of the four stages.
      num_blocks: of the four stages.
      head_width: factor on the widths of the heads that belong to the encoder.
    """

    bottleneck: bool
    stem: tuple[int, int, int]
    planes: tuple[int, int, int, int]
    num_blocks: tuple[int, int, int, int]
    head_width: float = 1.0


ARCHITECTURES = {
    "resnet101": Architecture(True, (64, 64, 128), (64, 128, 256, 512), (3, 4, 23, 3)),
    "resnet50": Architecture(True, (64, 64, 128), (64, 128, 256, 512), (3, 4, 6, 3)),
    "resnet18": Architecture(False, (64, 64, 128), (64, 128, 256, 512), (2, 2, 2, 2)),
    "tiny": Architecture(False, (16, 16, 32), (32, 64, 96, 128), (1, 1, 1, 1), 0.1875),
}


def architecture(encoder):
    """Returns the `Architecture` of an encoder's name.

    Raises:
      UserError: where there is no encoder of that name.
    """
    if encoder not in ARCHITECTURES:
        raise UserError(
            f"encoder {encoder!r} is unknown: choose one of {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[encoder]


def scaled(channels, width):
    """Returns `channels * width` as an integer, a multiple of 8 unless `width` is 1."""
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))


class Block(nn.Module):
    """A residual block; a norm follows every convolution, also right before the sum.

    Attributes:
      conv: partial of `layers.conv`.
      norm: partial of `layers.ABN`.
      planes: inner channels.
      features: channels of the result.
      bottleneck: 1x1, 3x3, 1x1 where true, else two 3x3.
      stride: of the first 3x3 convolution.
      dilation: of the 3x3 convolutions.
    """

    conv: ModuleDef
    norm: ModuleDef
    planes: int
    features: int
    bottleneck: bool
    stride: int
    dilation: int

    @nn.compact
    def __call__(self, x):
        """Maps `[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]`."""
        first = {"stride": self.stride, "dilation": self.dilation}
        if self.bottleneck:
            convs = [(self.planes, 1, {}), (self.planes, 3, first), (self.features, 1, {})]
        else:
            second = {"dilation": self.dilation}
            convs = [(self.planes, 3, first), (self.features, 3, second)]
        y = x
        for i, (features, kernel_size, options) in enumerate(convs, start=1):
            y = self.conv(features, kernel_size, **options, name=f"conv{i}")(y)
            y = self.norm(name=f"bn{i}")(y)
            if i < len(convs):
                y = nn.relu(y)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = self.conv(self.features, stride=self.stride, name="downsample_conv")(x)
            x = self.norm(name="downsample_bn")(x)
        return nn.relu(y + x)


class ResNet(nn.Module):
    """The low-level encoder, the only part that the three tasks share.

    Attributes:
      encoder: a name in `ARCHITECTURES`.
      stem: "deep" (three 3x3 convolutions) or "conv7" (torchvision's 7x7 convolution).
      width: factor on all channel counts.
      conv: partial of `layers.conv`.
      norm: partial of `layers.ABN`.
      pool: `layers.max_pool` or its equal.
    """

    encoder: str
    stem: str
    width: float
    conv: ModuleDef
    norm: ModuleDef
    pool: Callable = max_pool

    @nn.compact
    def __call__(self, x):
        """Maps images to features of rising depth.

        Args:
          x: `[B, H, W, 3]`, normalised.

        Returns:
          x2 at 1/4 and x3, x4, x5 at 1/8 of the input's resolution, each `[B, h, w, C]`.
        """
        arch = architecture(self.encoder)
        kernels = (3, 3, 3) if self.stem == "deep" else (7,)
        for i, (features, kernel_size) in enumerate(zip(arch.stem, kernels, strict=False), start=1):
            features, stride = scaled(features, self.width), 2 if i == 1 else 1
            x = self.conv(features, kernel_size, stride=stride, name=f"conv{i}")(x)
            x = nn.relu(self.norm(name=f"bn{i}")(x))
        x = self.pool(x)

        outputs: list[jnp.ndarray] = []
        for stage in range(4):
            planes = scaled(arch.planes[stage], self.width)
            for block in range(arch.num_blocks[stage]):
                x = Block(
                    self.conv,
                    self.norm,
                    planes=planes,
                    features=planes * (4 if arch.bottleneck else 1),
                    bottleneck=arch.bottleneck,
                    stride=STRIDES[stage] if block == 0 else 1,
                    dilation=DILATIONS[stage],
                    name=f"layer{stage + 1}_{block}",
                )(x)
            outputs.append(x)
        return tuple(outputs)
