"""EfficientNet-Lite's features in PyTorch, from a state_dict under the released names."""

import torch
import torch.nn.functional as F

# As in the released files: channels and repeats of each stage.
CHANNELS = {
    "efficientnet_lite0": (16, 24, 40, 80, 112, 192, 320),
    "efficientnet_lite1": (16, 24, 40, 80, 112, 192, 320),
    "efficientnet_lite2": (16, 24, 48, 88, 120, 208, 352),
}
REPEATS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
STRIDES = (1, 2, 2, 2, 1, 2, 1)


def convolve(x, weight, stride=1, dilation=1):
    """Pads as TensorFlow's SAME."""
    padding = []
    for size in (x.shape[3], x.shape[2]):
        reach = (weight.shape[-1] - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        padding += [total // 2, total - total // 2]
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(F.pad(x, padding), weight, stride=stride, dilation=dilation, groups=groups)


def features(tensors, images, output_stride=32, encoder="efficientnet_lite0"):
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
        for index, repeats in enumerate(REPEATS[encoder]):
            for repeat in range(repeats):
                stride, used = 1, dilation
                if repeat == 0 and STRIDES[index] == 2:
                    if grid < output_stride:
                        stride, grid = 2, 2 * grid
                    else:
                        dilation *= 2
                name, y = f"_blocks.{number}.", x
                if index > 0:
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
