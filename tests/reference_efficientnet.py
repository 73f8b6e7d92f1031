"""EfficientNet-Lite0's features in PyTorch, from a state_dict under the released names."""

import torch
import torch.nn.functional as F

# Channels, repeats, kernel, stride, expansion.
STAGES = (
    (16, 1, 3, 1, 1),
    (24, 2, 3, 2, 6),
    (40, 2, 5, 2, 6),
    (80, 3, 3, 2, 6),
    (112, 3, 5, 1, 6),
    (192, 4, 5, 2, 6),
    (320, 1, 3, 1, 6),
)


def convolve(x, weight, stride=1, dilation=1):
    """Pads as TensorFlow's SAME."""
    padding = []
    for size in (x.shape[3], x.shape[2]):
        reach = (weight.shape[-1] - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        padding += [total // 2, total - total // 2]
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(F.pad(x, padding), weight, stride=stride, dilation=dilation, groups=groups)


def features(tensors, images, output_stride=32):
    """Returns x2, x3, x4 and x5, channels last."""

    def norm(x, name):
        weight, bias, mean, var = (
            tensors[f"{name}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    with torch.no_grad():
        x = torch.tensor(images).permute(0, 3, 1, 2)
        x = F.relu6(norm(convolve(x, tensors["_conv_stem.weight"], 2), "_bn0"))
        grid, dilation, number, outputs = 2, 1, 0, []
        for index, (_, repeats, _, stage_stride, expansion) in enumerate(STAGES):
            for repeat in range(repeats):
                stride, used = 1, dilation
                if repeat == 0 and stage_stride == 2:
                    if grid < output_stride:
                        stride, grid = 2, 2 * grid
                    else:
                        dilation *= 2
                name, y = f"_blocks.{number}.", x
                if expansion > 1:
                    y = convolve(y, tensors[name + "_expand_conv.weight"])
                    y = F.relu6(norm(y, name + "_bn0"))
                y = convolve(y, tensors[name + "_depthwise_conv.weight"], stride, used)
                y = F.relu6(norm(y, name + "_bn1"))
                y = norm(convolve(y, tensors[name + "_project_conv.weight"]), name + "_bn2")
                x = x + y if repeat else y
                number += 1
            if index in (1, 2, 4, 6):
                outputs.append(x.permute(0, 2, 3, 1).numpy())
    return outputs
