"""Labels at a share of the input's resolution: coarser losses cost less."""

import numpy as np


def at_resolution(label, share: float):
    """Picks evenly spaced pixels of label maps, the corner pixels among them.

    That is the grid of `layers.resize`, to which the logits are brought: at a share of 0.5 every
    second pixel of an odd side.

    Args:
      label: `[B, H, W]`.
      share: of the resolution, above 0 and at most 1.

    Returns:
      `[B, h, w]` of the same dtype, h = `round((H - 1) * share) + 1` and w alike.
    """
    if share == 1:
        return label
    rows, columns = (
        np.rint(np.linspace(0, size - 1, round((size - 1) * share) + 1)).astype(int)
        for size in label.shape[1:]
    )
    return label[:, rows][:, :, columns]
