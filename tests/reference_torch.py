"""The network and the objective in PyTorch, written from the specification for parity tests.

Nothing of `dmlcsr_jax` is used here. Modules carry the names of the released network, so that its
state_dict loads.
"""

import torch
import torch.nn.functional as F
from torch import nn


class ABN(nn.Module):
    """leaky_relu((|weight| + 1e-5) * (x - mean) / sqrt(var + 1e-5) + bias, 0.01)."""

    def __init__(self, features):
        super().__init__()
        self.momentum = 0.1
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x):
        x = F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight.abs() + 1e-5,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=1e-5,
        )
        return F.leaky_relu(x, 0.01)


def conv(features_in, features_out, kernel, stride=1, dilation=1, bias=False, groups=1):
    return nn.Conv2d(
        features_in,
        features_out,
        kernel,
        stride,
        padding=dilation * (kernel // 2),
        dilation=dilation,
        bias=bias,
        groups=groups,
    )


def conv_abn(features_in, features_out, kernel=1):
    return nn.Sequential(conv(features_in, features_out, kernel), ABN(features_out))


def resize(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Block(nn.Module):
    def __init__(self, features_in, planes, features_out, bottleneck, stride, dilation):
        super().__init__()
        self.bottleneck = bottleneck
        if bottleneck:
            self.conv1 = conv(features_in, planes, 1)
            self.conv2 = conv(planes, planes, 3, stride, dilation)
            self.conv3 = conv(planes, features_out, 1)
            self.bn3 = ABN(features_out)
        else:
            self.conv1 = conv(features_in, planes, 3, stride, dilation)
            self.conv2 = conv(planes, features_out, 3, 1, dilation)
        self.bn1 = ABN(planes)
        self.bn2 = ABN(planes if bottleneck else features_out)
        self.downsample = None
        if stride != 1 or features_in != features_out:
            self.downsample = nn.Sequential(
                conv(features_in, features_out, 1, stride), ABN(features_out)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class SpatialGraph(nn.Module):
    def __init__(self, features, states):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.node_k = conv(features, states, 1, bias=True)
        self.node_v = conv(features, states, 1, bias=True)
        self.node_q = conv(features, states, 1, bias=True)
        self.conv_wg = nn.Conv1d(states, states, 1, bias=False)
        self.bn_wg = nn.BatchNorm1d(states)
        self.out = nn.Sequential(conv(states, features, 1, bias=True), ABN(features))

    def forward(self, x):
        k, v, q = (node(x).flatten(2) for node in (self.node_k, self.node_v, self.node_q))
        relation = torch.softmax(q @ v.transpose(1, 2), dim=-1)
        out = (k.transpose(1, 2) @ relation).transpose(1, 2)
        out = self.bn_wg(self.conv_wg(out)).unflatten(2, x.shape[2:])
        return self.gamma * self.out(out) + x


class DualGraph(nn.Module):
    def __init__(self, features, nodes, states):
        super().__init__()
        self.local = nn.Sequential(
            *[
                layer
                for _ in range(3)
                for layer in (conv(features, features, 3, 2, groups=features), ABN(features))
            ]
        )
        self.gcn_local_attention = SpatialGraph(features, states)
        self.gamma1 = nn.Parameter(torch.zeros(1))
        self.phi, self.bn_phi = conv(features, states, 1), ABN(states)
        self.theta, self.bn_theta = conv(features, nodes, 1), ABN(nodes)
        self.conv_adj = nn.Conv1d(nodes, nodes, 1, bias=False)
        self.bn_adj = nn.BatchNorm1d(nodes)
        self.conv_wg = nn.Conv1d(states, states, 1, bias=False)
        self.bn_wg = nn.BatchNorm1d(states)
        self.conv3, self.bn3 = conv(states, features, 1), ABN(features)
        self.final = conv_abn(2 * features, features)

    def forward(self, f):
        coarse = self.gcn_local_attention(self.local(f))
        spatial = resize(coarse, f.shape[2:]) * f + f

        phi = self.bn_phi(self.phi(f)).flatten(2)
        theta = self.bn_theta(self.theta(f)).flatten(2)
        z = phi @ theta.transpose(1, 2)
        mixed = self.bn_adj(self.conv_adj(z.transpose(1, 2)))
        z = self.bn_wg(self.conv_wg(mixed.transpose(1, 2) + z))
        y = (z @ theta).unflatten(2, f.shape[2:])
        feature = self.gamma1 * self.bn3(self.conv3(y)) + f
        return self.final(torch.cat([spatial, feature], 1))


class Context(nn.Module):
    def __init__(self, features_in, features, nodes, states):
        super().__init__()
        self.conva = conv_abn(features_in, features, 3)
        self.dualgcn = DualGraph(features, nodes, states)
        self.convb = conv_abn(features, features, 3)
        self.bottleneck = conv_abn(features_in + features, features, 3)

    def forward(self, x5):
        return self.bottleneck(torch.cat([x5, self.convb(self.dualgcn(self.conva(x5)))], 1))


class Parsing(nn.Module):
    def __init__(self, context, x2, features, low, num_classes):
        super().__init__()
        self.conv1 = conv_abn(context, features)
        self.conv2 = conv_abn(x2, low)
        self.conv3 = nn.Sequential(
            *conv_abn(features + low, features), *conv_abn(features, features)
        )
        self.conv4 = conv(features, num_classes, 1, bias=True)

    def forward(self, context, x2):
        context = resize(self.conv1(context), x2.shape[2:])
        return self.conv4(self.conv3(torch.cat([context, self.conv2(x2)], 1)))


class Edge(nn.Module):
    def __init__(self, x2, x3, x4, features, num_classes):
        super().__init__()
        self.conv1 = conv_abn(x2, features)
        self.conv2 = conv_abn(x3, features)
        self.conv3 = conv_abn(x4, features)
        self.conv4 = conv(features, num_classes, 3, bias=True)
        self.conv5 = conv(3 * num_classes, num_classes, 1, bias=True)
        self.conv5_b = conv(3 * num_classes, 2, 1, bias=True)

    def forward(self, x2, x3, x4):
        edges = [
            self.conv4(self.conv1(x2)),
            self.conv4(self.conv2(x3)),
            self.conv4(self.conv3(x4)),
        ]
        edges = torch.cat([edges[0], *(resize(edge, x2.shape[2:]) for edge in edges[1:])], 1)
        return self.conv5_b(edges), self.conv5(edges)


class Network(nn.Module):
    """DML-CSR; the defaults are the released network's."""

    def __init__(
        self,
        num_classes,
        *,
        edges=True,
        bottleneck=True,
        num_blocks=(3, 4, 23, 3),
        stem=(64, 64, 128),
        planes=(64, 128, 256, 512),
        features=512,
        states=256,
        nodes=128,
        head=256,
        low=48,
        conv7=False,
    ):
        super().__init__()
        if conv7:
            self.conv1, self.bn1 = conv(3, stem[0], 7, 2), ABN(stem[0])
            width = stem[0]
        else:
            self.conv1, self.bn1 = conv(3, stem[0], 3, 2), ABN(stem[0])
            self.conv2, self.bn2 = conv(stem[0], stem[1], 3), ABN(stem[1])
            self.conv3, self.bn3 = conv(stem[1], stem[2], 3), ABN(stem[2])
            width = stem[2]
        self.conv7 = conv7
        outs = []
        for stage, (stride, dilation) in enumerate([(1, 1), (2, 1), (1, 1), (1, 2)]):
            out = planes[stage] * (4 if bottleneck else 1)
            blocks = []
            for block in range(num_blocks[stage]):
                stride_here = stride if block == 0 else 1
                blocks.append(Block(width, planes[stage], out, bottleneck, stride_here, dilation))
                width = out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            outs.append(out)
        self.context = Context(outs[3], features, nodes, states)
        self.layer6 = Parsing(features, outs[0], head, low, num_classes)
        self.edge_layer = Edge(*outs[:3], head, num_classes) if edges else None

    def forward(self, x):
        """Maps `[B, 3, H, W]` to a dict of logits `[B, C, h, w]`."""
        x = F.relu(self.bn1(self.conv1(x)))
        if not self.conv7:
            x = F.relu(self.bn2(self.conv2(x)))
            x = F.relu(self.bn3(self.conv3(x)))
        x = F.max_pool2d(x, 3, 2, padding=1)
        x2 = self.layer1(x)
        x3 = self.layer2(x2)
        x4 = self.layer3(x3)
        x5 = self.layer4(x4)
        outputs = {"parsing": self.layer6(self.context(x5), x2)}
        if self.edge_layer is not None:
            outputs["binary_edge"], outputs["category_edge"] = self.edge_layer(x2, x3, x4)
        return outputs


TINY = {
    "bottleneck": False,
    "num_blocks": (1, 1, 1, 1),
    "stem": (16, 16, 32),
    "planes": (32, 64, 96, 128),
    "features": 96,
    "states": 48,
    "nodes": 24,
    "head": 48,
    "low": 8,
}


def tiny_network(num_classes=19, seed=0, **options):
    """A tiny network with drawn weights and statistics, in evaluation mode."""
    torch.manual_seed(seed)
    network = Network(num_classes, **TINY | options)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "gamma" in name or name.endswith(("running_mean", "bias")):
                tensor.normal_()
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
    return network.eval()


def edge_targets(label, ignore):
    """Binary and category edges of `[B, H, W]`: one of the four neighbours has another label."""
    binary = torch.zeros_like(label)
    for shift, axis in ((1, 1), (-1, 1), (1, 2), (-1, 2)):
        neighbour = label.roll(shift, axis)
        other = (neighbour != label) & (neighbour != ignore) & (label != ignore)
        rim = 0 if shift == 1 else label.shape[axis] - 1
        other.select(axis, rim).fill_(False)
        binary = binary | other.long()
    return binary, torch.where(binary == 1, label, 0)


def lovasz_softmax(logits, label, ignore):
    """Mean over the classes present of the Lovasz extension of the Jaccard loss."""
    valid = label != ignore
    probability, label = logits.softmax(1).movedim(1, -1)[valid], label[valid]
    losses = []
    for c in label.unique():
        truth = (label == c).to(logits.dtype)
        errors, order = (truth - probability[:, c]).abs().sort(descending=True)
        truth = truth[order]
        intersection = truth.sum() - truth.cumsum(0)
        union = truth.sum() + (1 - truth).cumsum(0)
        jaccard = 1 - intersection / union
        gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append(errors @ gradient)
    return torch.stack(losses).mean()


def weighted_cross_entropy(logits, target, ignore):
    valid = target[target != ignore]
    counts = torch.bincount(valid, minlength=logits.shape[1]).to(logits.dtype)
    return F.cross_entropy(logits, target, weight=1 - counts / counts.sum(), ignore_index=ignore)


def attention(per_pixel, edge):
    """Mean over the edge pixels of each image, then over the images; 0 without edges."""
    edge = edge.to(per_pixel.dtype)
    return ((per_pixel * edge).sum((1, 2)) / edge.sum((1, 2)).clamp(min=1)).mean()


WEIGHTS = {
    "cross_entropy": 2.0,
    "lovasz": 2.0,
    "binary_edge": 1.0,
    "category_edge": 0.2,
    "attention_binary": 4.0,
    "attention_category": 1.0,
}


def objective(outputs, label, ignore=255):
    """Total and terms for int64 `[B, H, W]` labels."""
    outputs = {name: resize(logits, label.shape[1:]) for name, logits in outputs.items()}
    binary, category = edge_targets(label, ignore)
    known = label != ignore
    per_pixel = F.cross_entropy(outputs["parsing"], label, ignore_index=ignore, reduction="none")
    terms = {
        "cross_entropy": F.cross_entropy(outputs["parsing"], label, ignore_index=ignore),
        "lovasz": lovasz_softmax(outputs["parsing"], label, ignore),
        "binary_edge": weighted_cross_entropy(
            outputs["binary_edge"], torch.where(known, binary, ignore), ignore
        ),
        "category_edge": weighted_cross_entropy(
            outputs["category_edge"], torch.where(known, category, ignore), ignore
        ),
        "attention_binary": attention(per_pixel, binary == 1),
        "attention_category": attention(per_pixel, (binary == 1) & (category > 0)),
    }
    return sum(WEIGHTS[name] * term for name, term in terms.items()), terms
