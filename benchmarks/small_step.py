"""Time of a training step of the small network, beside the same network in PyTorch.

    python -m benchmarks.small_step

EfficientNet-Lite0 at output stride 16 with the heads, all losses at half resolution, gradients and
AdamW, for a batch of 16 at 192 pixels. Both run in turns in one process. Wall time depends on who
else uses the cores; the seconds of computing time, summed over the cores, hardly do, but PyTorch's
threads that wait for each other count as computing. Needs torch.
"""

import argparse
import functools
import time

import jax
import numpy as np
import tabulate
import torch
import torch.nn.functional as F
from dmlcsr_jax.configs import celebamask_hq_small
from torch import nn

from dmlcsr_jax import models
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.training.host_memory import keep_freed_memory
from dmlcsr_jax.training.optimizer import optimizer as make_optimizer
from dmlcsr_jax.training.state import TrainState
from dmlcsr_jax.training.step import train_step

NUM_CLASSES = 19
# Channels, repeats, kernel, stride, expansion, dilation of the first block and of the others.
STAGES = (
    (16, 1, 3, 1, 1, 1, 1),
    (24, 2, 3, 2, 6, 1, 1),
    (40, 2, 5, 2, 6, 1, 1),
    (80, 3, 3, 2, 6, 1, 1),
    (112, 3, 5, 1, 6, 1, 1),
    (192, 4, 5, 1, 6, 1, 2),
    (320, 1, 3, 1, 6, 2, 2),
)
resize = functools.partial(F.interpolate, mode="bilinear", align_corners=True)


def convolve(features_in, features, size=1, stride=1, groups=1, dilation=1, activation=None):
    """A convolution with norm and perhaps an activation."""
    padding = dilation * (size // 2)
    layers = [
        nn.Conv2d(features_in, features, size, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(features),
    ]
    return nn.Sequential(*layers, *([activation] if activation else []))


def abn(features_in, features, size=1, stride=1, groups=1):
    """A convolution of the heads."""
    activation = nn.LeakyReLU(0.01)
    return convolve(features_in, features, size, stride, groups, activation=activation)


class Block(nn.Module):
    """An inverted residual."""

    def __init__(self, features_in, features, size, stride, expansion, dilation):
        super().__init__()
        inner = features_in * expansion
        expand = [convolve(features_in, inner, activation=nn.ReLU6())] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            convolve(inner, inner, size, stride, inner, dilation, nn.ReLU6()),
            convolve(inner, features),
        )
        self.is_residual = stride == 1 and features_in == features

    def forward(self, x):
        """Maps features to features."""
        return x + self.layers(x) if self.is_residual else self.layers(x)


class TorchNetwork(nn.Module):
    """The network with heads of the same widths; without the norms within the graphs."""

    def __init__(self, width, states, nodes, parsing, low):
        super().__init__()
        self.stem, stages, features = convolve(3, 32, 3, 2, activation=nn.ReLU6()), [], 32
        for out, repeats, size, stride, expansion, first, others in STAGES:
            blocks = [Block(features, out, size, stride, expansion, first)]
            blocks += [Block(out, out, size, 1, expansion, others) for _ in range(1, repeats)]
            stages.append(nn.Sequential(*blocks))
            features = out
        self.stages = nn.ModuleList(stages)
        self.conv_in, self.conv_out = abn(320, width, 3), abn(width, width, 3)
        self.bottleneck = abn(320 + width, width, 3)
        self.reduce = nn.Sequential(*(abn(width, width, 3, 2, width) for _ in range(3)))
        self.key, self.value, self.query = (nn.Conv2d(width, states, 1) for _ in range(3))
        self.spatial_out, self.feature_out = abn(states, width), abn(states, width)
        self.phi, self.theta = abn(width, states), abn(width, nodes)
        self.mix_nodes, self.mix_states = (
            nn.Linear(size, size, bias=False) for size in (nodes, states)
        )
        self.join = abn(2 * width, width)
        self.context, self.low, self.middle = abn(width, parsing), abn(24, low), abn(40, low)
        self.fuse = nn.Sequential(abn(parsing + 2 * low, parsing), abn(parsing, parsing))
        self.logits = nn.Conv2d(parsing, NUM_CLASSES, 1)
        self.edges = nn.ModuleList([abn(size, parsing) for size in (24, 40, 112)])
        self.shared = nn.Conv2d(parsing, NUM_CLASSES, 3, padding=1)
        self.binary = nn.Conv2d(3 * NUM_CLASSES, 2, 1)
        self.category = nn.Conv2d(3 * NUM_CLASSES, NUM_CLASSES, 1)

    def graph(self, f):
        """The dual graph."""
        coarse = self.reduce(f)
        key, value, query = (
            layer(coarse).flatten(2) for layer in (self.key, self.value, self.query)
        )
        relation = (query @ value.transpose(1, 2)).softmax(-1)
        out = (relation @ key).unflatten(2, coarse.shape[2:])
        spatial = f * resize(self.spatial_out(out) + coarse, f.shape[2:]) + f
        phi, theta = self.phi(f).flatten(2), self.theta(f).flatten(2)
        z = phi @ theta.transpose(1, 2)
        z = self.mix_nodes(z) + z
        z = self.mix_states(z.transpose(1, 2)).transpose(1, 2)
        feature = self.feature_out((z @ theta).unflatten(2, f.shape[2:])) + f
        return self.join(torch.cat([spatial, feature], 1))

    def parse(self, x):
        """Returns the label map's logits, and the features that the edge branch needs."""
        x, outputs = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        x2, x3, x4, x5 = (outputs[index] for index in (1, 2, 4, 6))
        hw = x2.shape[2:]
        f = self.conv_out(self.graph(self.conv_in(x5)))
        context = self.context(self.bottleneck(torch.cat([x5, f], 1)))
        parts = [resize(context, hw), self.low(x2), resize(self.middle(x3), hw)]
        return self.logits(self.fuse(torch.cat(parts, 1))), (x2, x3, x4)

    def forward(self, x):
        """Returns the three tasks' logits."""
        parsing, features = self.parse(x)
        edges = zip(self.edges, features, strict=True)
        hw = features[0].shape[2:]
        edges = torch.cat([resize(self.shared(layer(x)), hw) for layer, x in edges], 1)
        return parsing, self.binary(edges), self.category(edges)


def torch_lovasz(logits, label):
    """Lovász-softmax."""
    probabilities = logits.softmax(1).permute(0, 2, 3, 1).reshape(-1, NUM_CLASSES)
    total, present = 0, 0
    for index in range(NUM_CLASSES):
        foreground = (label.reshape(-1) == index).float()
        if not foreground.any():
            continue
        errors, order = (foreground - probabilities[:, index]).abs().sort(descending=True)
        ranked, count = foreground[order], foreground.sum()
        jaccard = 1 - (count - ranked.cumsum(0)) / (count + (1 - ranked).cumsum(0))
        total = total + errors @ torch.diff(jaccard, prepend=jaccard.new_zeros(1))
        present += 1
    return total / present


# Those of the small network: features, states, nodes, parsing head, low-level features.
WIDTHS = (192, 96, 48, 96, 16)


def torch_step(images, label, widths):
    """Returns the step in PyTorch, channels last."""
    network = TorchNetwork(*widths).to(memory_format=torch.channels_last).train()
    x = torch.tensor(images).permute(0, 3, 1, 2).float().div(128).sub(1)
    x = x.contiguous(memory_format=torch.channels_last)
    label = torch.tensor(label[:, ::2, ::2]).long()
    optimizer = torch.optim.AdamW(network.parameters())

    def step():
        optimizer.zero_grad(set_to_none=True)
        parsing, binary, category = (resize(y, label.shape[1:]) for y in network(x))
        edge = torch.zeros_like(label)
        for axis in (1, 2):
            size = label.shape[axis]
            border = label.narrow(axis, 1, size - 1) != label.narrow(axis, 0, size - 1)
            edge.narrow(axis, 1, size - 1).logical_or_(border)
            edge.narrow(axis, 0, size - 1).logical_or_(border)
        per_pixel = F.cross_entropy(parsing, label, reduction="none")
        loss = 2 * per_pixel.mean() + 2 * torch_lovasz(parsing, label)
        loss = loss + F.cross_entropy(binary, edge) + 0.2 * F.cross_entropy(category, label * edge)
        loss = loss + 4 * (per_pixel * edge).mean() + (per_pixel * (label * edge > 0)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    return step


def jax_step(images, label, dtype):
    """Returns the package's step."""
    config = celebamask_hq_small.get_config()
    metadata = Metadata.from_config(config)
    model = models.build_model(metadata, dtype)
    optimizer = make_optimizer(
        1e-3, 0.9, 0.02, name="adamw", encoder_lr_mult=0.3, grad_clip_norm=5.0
    )
    variables = models.initial_variables(model, 0, images.shape[1])
    state = TrainState.create(variables, optimizer, averaged=True)
    compiled = jax.jit(
        functools.partial(
            train_step,
            model=model,
            optimizer=optimizer,
            schedule=lambda step: 1e-3,
            metadata=metadata,
            loss_weights=config.loss.weights,
            edge_width=1,
            self_regulated=False,
            loss_resolution=0.5,
            ema_decay=0.998,
        ),
        donate_argnums=(0,),
    )
    state, batch = jax.device_put((state, {"image": images, "label": label}))

    def step():
        nonlocal state
        state, scalars = compiled(state, batch)
        jax.block_until_ready((state, scalars))

    return step


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image_size", type=int, default=192)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    keep_freed_memory()
    rng = np.random.default_rng(0)
    shape = (flags.batch_size, flags.image_size, flags.image_size)
    images = rng.integers(0, 256, (*shape, 3), np.uint8)
    blocks = rng.integers(0, NUM_CLASSES, (shape[0], *(-(-side // 16) for side in shape[1:])))
    label = blocks.repeat(16, 1).repeat(16, 2)[:, : shape[1], : shape[2]].astype(np.uint8)
    steps = {
        "PyTorch, channels last": torch_step(images, label, WIDTHS),
        "ours, float32": jax_step(images, label, "float32"),
        "ours, bfloat16": jax_step(images, label, "bfloat16"),
    }
    times = {name: [] for name in steps}
    for number in range(flags.rounds + 1):
        for name, step in steps.items():
            wall, cores = time.perf_counter(), time.process_time()
            step()
            if number:  # The first compiles.
                times[name].append((time.perf_counter() - wall, time.process_time() - cores))
    rows = [(name, *np.median(values, 0), *np.min(values, 0)) for name, values in times.items()]
    headers = ["", "median, s", "core-seconds", "fastest, s", "core-seconds"]
    print(tabulate.tabulate(rows, headers, floatfmt=".2f"))


if __name__ == "__main__":
    main()
