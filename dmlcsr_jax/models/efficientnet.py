"""EfficientNet-Lite0, 1 and 2 as encoders: the released classifiers up to their last stage.

EfficientNet (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6; stem, and repeats of
the first and last stage, are the same in all Lite variants. Layers pad as TensorFlow's SAME does,
so that the released weights give the released features. At stride 2 that samples an even image off
its centre; an image of `32 n + 1` pixels is sampled symmetrically, and its features lie exactly
where resizing with aligned corners puts them: train on such sizes.
"""

import functools
import math
from typing import NamedTuple

import jax
from flax import linen as nn

from dmlcsr_jax.models.layers import ModuleDef

# Factors on the channels and on the repeats of Lite0's stages.
SCALES = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
OUTPUT_STRIDES = (8, 16, 32)
HEAD_WIDTH = 0.375  # factor on the widths of the heads that belong to this encoder
EPSILON = 1e-3
STEM_FEATURES = 32


class Stage(NamedTuple):
    """A stage: `repeats` blocks, the first of them of `stride`."""

    features: int
    repeats: int
    kernel_size: int
    stride: int
    expansion: int


_LITE0 = (
    Stage(16, 1, 3, 1, 1),
    Stage(24, 2, 3, 2, 6),
    Stage(40, 2, 5, 2, 6),
    Stage(80, 3, 3, 2, 6),
    Stage(112, 3, 5, 1, 6),
    Stage(192, 4, 5, 2, 6),
    Stage(320, 1, 3, 1, 6),
)
# The stages whose results are x2, x3, x4 and x5.
_OUTPUTS = (1, 2, 4, 6)


def stages(encoder: str) -> list[Stage]:
    """Returns the stages of one of `SCALES`, rounded as the paper's code does."""
    width, depth = SCALES[encoder]

    def scaled(index, stage):
        features = max(8, math.floor(stage.features * width / 8 + 0.5) * 8)
        # The nearest multiple of 8, unless it takes away more than a tenth.
        if features < 0.9 * stage.features * width:
            features += 8
        is_outer = index in (0, len(_LITE0) - 1)
        repeats = stage.repeats if is_outer else math.ceil(stage.repeats * depth)
        return stage._replace(features=features, repeats=repeats)

    return [scaled(index, stage) for index, stage in enumerate(_LITE0)]


class Block(nn.Module):
    """An inverted residual: 1x1 expansion, depthwise convolution, 1x1 projection.

    Attributes:
      conv: partial of `layers.conv`.
      norm: partial of `layers.BatchNorm`.
      features: channels of the result.
      expansion: factor on the channels within; 1: without the first convolution.
      kernel_size: of the depthwise convolution.
      stride: of the depthwise convolution.
      dilation: of the depthwise convolution.
    """

    conv: ModuleDef
    norm: ModuleDef
    features: int
    expansion: int
    kernel_size: int
    stride: int
    dilation: int

    @nn.compact
    def __call__(self, x):
        """Maps `[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]`."""
        y, channels = x, self.expansion * x.shape[-1]
        if self.expansion != 1:
            y = self.conv(channels, name="expand_conv")(y)
            y = jax.nn.relu6(self.norm(name="expand_bn")(y))
        depthwise = self.conv(
            channels,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=channels,
            name="depthwise_conv",
        )
        y = jax.nn.relu6(self.norm(name="depthwise_bn")(depthwise(y)))
        y = self.norm(name="project_bn")(self.conv(self.features, name="project_conv")(y))
        return y + x if y.shape == x.shape else y


class EfficientNetLite(nn.Module):
    """The encoder; its results go into the same heads as the residual networks'.

    Attributes:
      encoder: which of `SCALES`.
      conv: partial of `layers.conv`.
      norm: partial of `layers.ABN`, of which only dtypes, momentum and mode are kept.
      output_stride: of the deepest features, 8, 16 or 32 pixels; stages that would go beyond it
        keep their grid.
      dilated: whether the convolutions behind a stride left out reach as far as with it.
    """

    encoder: str
    conv: ModuleDef
    norm: ModuleDef
    output_stride: int = 16
    dilated: bool = True

    @nn.compact
    def __call__(self, x):
        """Maps images to features of rising depth.

        Args:
          x: `[B, H, W, 3]`, normalised.

        Returns:
          x2 at 1/4 (Lite0: 24 channels), x3 at 1/8 (40), x4 at 1/16 (112; at 1/8 where that is the
          output stride), and x5 at 1/output_stride (320), each `[B, h, w, C]`.
        """
        conv = functools.partial(self.conv, padding="SAME")
        norm = functools.partial(self.norm, activated=False, epsilon=EPSILON)
        x = conv(STEM_FEATURES, 3, stride=2, name="stem_conv")(x)
        x = jax.nn.relu6(norm(name="stem_bn")(x))
        grid, dilation, number, outputs = 2, 1, 0, []
        for index, stage in enumerate(stages(self.encoder)):
            for repeat in range(stage.repeats):
                stride, used_dilation = 1, dilation
                if repeat == 0 and stage.stride > 1:
                    if grid * stage.stride <= self.output_stride:
                        stride = stage.stride
                        grid *= stride
                    elif self.dilated:
                        # The first block still sees the grid that it was trained on.
                        dilation *= stage.stride
                block = Block(
                    conv,
                    norm,
                    features=stage.features,
                    expansion=stage.expansion,
                    kernel_size=stage.kernel_size,
                    stride=stride,
                    dilation=used_dilation,
                    name=f"block{number}",
                )
                x = block(x)
                number += 1
            if index in _OUTPUTS:
                outputs.append(x)
        return tuple(outputs)
