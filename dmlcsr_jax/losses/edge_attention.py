"""Dual edge attention (arXiv 2203.14448, section 3.3).

| symbol | shape | meaning |
|---|---|---|
| l | [B, H, W] | parsing cross-entropy of each pixel |
| E_b | [H, W] | edge pixels of image b: binary edge, or category edge > 0 |

    attention = 1/B * sum over b of (1/|E_b| * sum over p in E_b of l[b, p]),

where an image without edges adds 0.
"""

import jax

from dmlcsr_jax.losses.reduction import weighted_mean


def edge_attention(per_pixel, edge, ignore_label=255):
    """Dual edge attention: the parsing cross-entropy of edge pixels (section 3.3).

    Args:
      per_pixel: floating `[B, H, W]`, as `pixel_cross_entropy` returns it for the parsing logits.
      edge: integer `[B, H, W]`, binary or category edge; above 0 and not `ignore_label` is an edge.
      ignore_label: value of pixels without a known edge.

    Returns:
      The mean over each image's edge pixels, averaged over the images; an image without edges adds
      0 and is counted.
    """
    is_edge = (edge > 0) & (edge != ignore_label)
    return jax.vmap(weighted_mean)(per_pixel, is_edge).mean()
