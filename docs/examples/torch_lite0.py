"""The network with the encoder EfficientNet-Lite0 in PyTorch, without dmlcsr_jax: copy this file.

    python -m dmlcsr_jax.convert_torch --checkpoint=default --out=weights.safetensors
    python docs/examples/torch_lite0.py weights.safetensors photo.jpg labels.png

`docs/pytorch.md` describes the names of the tensors. Lite1 and Lite2 have other stages.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn

# Channels, repeats, kernel, stride and expansion of the encoder's stages.
STAGES = (
    (16, 1, 3, 1, 1),
    (24, 2, 3, 2, 6),
    (40, 2, 5, 2, 6),
    (80, 3, 3, 2, 6),
    (112, 3, 5, 1, 6),
    (192, 4, 5, 2, 6),
    (320, 1, 3, 1, 6),
)
FEATURES, STATES, NODES, HEAD, LOW = 192, 96, 48, 96, 16


class ABN(nn.BatchNorm2d):
    """leaky_relu((|weight| + 1e-5) * (x - mean) / sqrt(var + 1e-5) + bias, 0.01)."""

    def forward(self, x):
        """Maps `[B, C, H, W]`."""
        mean, var, weight = self.running_mean, self.running_var, self.weight.abs() + 1e-5
        return F.leaky_relu(F.batch_norm(x, mean, var, weight, self.bias, eps=1e-5), 0.01)


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's SAME."""

    def forward(self, x):
        """Maps `[B, C, H, W]`."""
        padding = []
        for size in (x.shape[3], x.shape[2]):
            stride, reach = self.stride[0], (self.kernel_size[0] - 1) * self.dilation[0]
            total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


def conv_abn(channels_in, channels, kernel=1):
    """Returns a convolution without bias, then `ABN`."""
    conv = nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, ABN(channels))


def resize(x, hw):
    """Returns `[B, C, *hw]`, corner pixels on corner pixels."""
    return F.interpolate(x, hw, mode="bilinear", align_corners=True)


class Block(nn.Module):
    """An inverted residual of the encoder."""

    def __init__(self, channels_in, channels, kernel, stride, expansion, dilation):
        """Makes expansion (where there is one), depthwise convolution and projection."""
        super().__init__()
        inner, self.expands = expansion * channels_in, expansion > 1
        if self.expands:
            self._expand_conv = SameConv(channels_in, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = SameConv(
            inner, inner, kernel, stride, dilation=dilation, groups=inner, bias=False
        )
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = SameConv(inner, channels, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x):
        """Maps `[B, C, H, W]`."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if x.shape == y.shape else y


class Encoder(nn.Module):
    """EfficientNet-Lite0 up to its 320 channels."""

    def __init__(self, output_stride, dilated):
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList()
        self.outputs = []
        channels_in, grid, dilation = 32, 2, 1
        for channels, repeats, kernel, stage_stride, expansion in STAGES:
            for repeat in range(repeats):
                stride, used = 1, dilation
                if repeat == 0 and stage_stride > 1:
                    if grid * stage_stride <= output_stride:
                        stride, grid = stage_stride, grid * stage_stride
                    elif dilated:
                        dilation *= stage_stride
                block = Block(channels_in, channels, kernel, stride, expansion, used)
                self._blocks.append(block)
                channels_in = channels
            if channels in (24, 40, 112, 320):
                self.outputs.append(len(self._blocks) - 1)

    def forward(self, x):
        """Maps images to features at 1/4, 1/8, 1/16 and 1/output_stride."""
        x, found = F.relu6(self._bn0(self._conv_stem(x))), []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self.outputs:
                found.append(x)
        return found


class SpatialGraph(nn.Module):
    """Attention between channels."""

    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.node_k, self.node_v, self.node_q = (nn.Conv2d(FEATURES, STATES, 1) for _ in range(3))
        self.conv_wg = nn.Conv1d(STATES, STATES, 1, bias=False)
        self.bn_wg = nn.BatchNorm1d(STATES)
        self.out = nn.Sequential(nn.Conv2d(STATES, FEATURES, 1), ABN(FEATURES))

    def forward(self, x):
        """Maps `[B, C, H, W]`."""
        k, v, q = (node(x).flatten(2) for node in (self.node_k, self.node_v, self.node_q))
        relation = torch.softmax(q @ v.transpose(1, 2), dim=-1)
        out = (k.transpose(1, 2) @ relation).transpose(1, 2)
        out = self.bn_wg(self.conv_wg(out)).unflatten(2, x.shape[2:])
        return self.gamma * self.out(out) + x


class DualGraph(nn.Module):
    """The spatial graph, and the feature graph beside it."""

    def __init__(self):
        super().__init__()
        grouped = {"stride": 2, "padding": 1, "groups": FEATURES, "bias": False}
        reduce = [(nn.Conv2d(FEATURES, FEATURES, 3, **grouped), ABN(FEATURES)) for _ in range(3)]
        self.local = nn.Sequential(*(layer for pair in reduce for layer in pair))
        self.gcn_local_attention = SpatialGraph()
        self.gamma1 = nn.Parameter(torch.zeros(1))
        self.phi, self.bn_phi = nn.Conv2d(FEATURES, STATES, 1, bias=False), ABN(STATES)
        self.theta, self.bn_theta = nn.Conv2d(FEATURES, NODES, 1, bias=False), ABN(NODES)
        self.conv_adj, self.bn_adj = nn.Conv1d(NODES, NODES, 1, bias=False), nn.BatchNorm1d(NODES)
        self.conv_wg, self.bn_wg = nn.Conv1d(STATES, STATES, 1, bias=False), nn.BatchNorm1d(STATES)
        self.conv3, self.bn3 = nn.Conv2d(STATES, FEATURES, 1, bias=False), ABN(FEATURES)
        self.final = conv_abn(2 * FEATURES, FEATURES)

    def forward(self, f):
        """Maps `[B, C, H, W]`."""
        spatial = f * resize(self.gcn_local_attention(self.local(f)), f.shape[2:]) + f
        phi = self.bn_phi(self.phi(f)).flatten(2)
        theta = self.bn_theta(self.theta(f)).flatten(2)
        z = theta @ phi.transpose(1, 2)
        z = self.bn_adj(self.conv_adj(z)) + z
        z = self.bn_wg(self.conv_wg(z.transpose(1, 2)))
        y = (z @ theta).unflatten(2, f.shape[2:])
        feature = self.gamma1 * self.bn3(self.conv3(y)) + f
        return self.final(torch.cat([spatial, feature], 1))


class Context(nn.Module):
    """The context head."""

    def __init__(self, dual_graph):
        super().__init__()
        self.conva = conv_abn(320, FEATURES, 3)
        self.dualgcn = DualGraph() if dual_graph else nn.Identity()
        self.convb = conv_abn(FEATURES, FEATURES, 3)
        self.bottleneck = conv_abn(320 + FEATURES, FEATURES, 3)

    def forward(self, x5):
        """Maps the deepest features to the context."""
        return self.bottleneck(torch.cat([x5, self.convb(self.dualgcn(self.conva(x5)))], 1))


class Parsing(nn.Module):
    """The parsing head."""

    def __init__(self, num_classes, has_middle):
        super().__init__()
        self.conv1, self.conv2 = conv_abn(FEATURES, HEAD), conv_abn(24, LOW)
        if has_middle:
            self.middle = conv_abn(40, LOW)
        width = HEAD + LOW * (2 if has_middle else 1)
        self.conv3 = nn.Sequential(*conv_abn(width, HEAD), *conv_abn(HEAD, HEAD))
        self.conv4 = nn.Conv2d(HEAD, num_classes, 1)

    def forward(self, context, x2, x3):
        """Maps to logits at a quarter of the image's resolution."""
        parts = [resize(self.conv1(context), x2.shape[2:]), self.conv2(x2)]
        if hasattr(self, "middle"):
            parts.append(resize(self.middle(x3), x2.shape[2:]))
        return self.conv4(self.conv3(torch.cat(parts, 1)))


class Lite0(nn.Module):
    """Maps normalised images `[B, 3, H, W]` to logits `[B, classes, ceil(H/4), ceil(W/4)]`."""

    def __init__(self, num_classes, output_stride=16, dilated=True, dual_graph=True):
        super().__init__()
        self.encoder = Encoder(output_stride, dilated)
        self.context = Context(dual_graph)
        # Where the context's grid is coarser than x3's, x3 comes in between.
        self.layer6 = Parsing(num_classes, has_middle=output_stride > 8)

    def forward(self, x):
        """Returns the logits."""
        x2, x3, _, x5 = self.encoder(x)
        return self.layer6(self.context(x5), x2, x3)


def load(path):
    """Returns the network in evaluation mode, and what `PATH.json` says of it."""
    about = json.loads(pathlib.Path(f"{path}.json").read_text())
    if about["encoder"] != "efficientnet_lite0":
        raise ValueError(f"{path} has the encoder {about['encoder']}; this is Lite0's network.")
    options = {name: about[name] for name in ("output_stride", "dilated", "dual_graph")}
    network = Lite0(len(about["label_set"]["classes"]), **options)
    # The edge branch helps in training alone.
    tensors = {k: v for k, v in load_file(path).items() if not k.startswith("edge_layer.")}
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing), missing
    return network.eval(), about


def main(weights, photograph, target):
    """Parses a photograph that a face fills."""
    network, about = load(weights)
    image = Image.open(photograph).convert("RGB")
    # In the middle of a black square, reduced without antialiasing, as in training.
    longer, (left, top) = max(image.size), [(max(image.size) - side) // 2 for side in image.size]
    square = Image.new("RGB", (longer, longer))
    square.paste(image, (left, top))
    x = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float()
    x = F.interpolate(x, (about["image_size"],) * 2, mode="bilinear") / 255
    x = x.flip(1) if about["channel_order"] == "bgr" else x
    x = (x - torch.tensor(about["mean"])[:, None, None]) / torch.tensor(about["std"])[:, None, None]
    with torch.no_grad():
        logits = F.interpolate(resize(network(x), x.shape[2:]), (longer, longer), mode="bilinear")
    labels = logits.argmax(1)[0, top : top + image.height, left : left + image.width]
    Image.fromarray(labels.numpy().astype(np.uint8)).save(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
