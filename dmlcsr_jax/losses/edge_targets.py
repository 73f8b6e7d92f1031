"""Edge targets, made on the device from the label map after augmentation."""

import jax.numpy as jnp
import numpy as np
from jax import lax


def binary_edge(label, width=1, ignore_label=255):
    """Marks the pixels that border on another class (method, "Targets").

    A pixel is an edge where one of its four neighbours has another label, neither of the two being
    `ignore_label`; both sides of a border are marked, so an undilated edge is two pixels thick. The
    image's own rim is not a border.

    Args:
      label: integer `[B, H, W]`, classes and `ignore_label`.
      width: side, in pixels, of the square that dilates the edges; 1 leaves them as they are. An
        even square reaches one pixel further down and right than up and left, as OpenCV's does.
      ignore_label: label of pixels without a known class; they are never edges.

    Returns:
      int32 `[B, H, W]` of 0 and 1; 0 at ignored pixels also after dilation.

    Raises:
      ValueError: where `width` is below 1.
    """
    if width < 1:
        raise ValueError(f"the edge width is {width}; it must be 1 or more.")
    known = label != ignore_label
    edge = jnp.zeros(label.shape, bool)
    for axis in (1, 2):
        before = lax.slice_in_dim(label, 0, -1, axis=axis)
        after = lax.slice_in_dim(label, 1, None, axis=axis)
        known_before = lax.slice_in_dim(known, 0, -1, axis=axis)
        known_after = lax.slice_in_dim(known, 1, None, axis=axis)
        border = (before != after) & known_before & known_after
        first, last = [(0, 0)] * 3, [(0, 0)] * 3
        first[axis], last[axis] = (0, 1), (1, 0)
        edge |= jnp.pad(border, first) | jnp.pad(border, last)
    edge = edge.astype(jnp.int32)
    if width > 1:
        reach = (width // 2, width - 1 - width // 2)
        edge = lax.reduce_window(
            edge, np.int32(0), lax.max, (1, width, width), (1, 1, 1), ((0, 0), reach, reach)
        )
    return jnp.where(known, edge, 0)


def category_edge(label, binary):
    """Gives each edge pixel its own class (method, "Targets").

    Args:
      label: integer `[B, H, W]`, classes and the ignore label.
      binary: `[B, H, W]` of 0 and 1, as `binary_edge` returns it.

    Returns:
      int32 `[B, H, W]`: the pixel's label where `binary` is 1, else 0. Background's edge pixels and
      pixels that are no edge are both 0.
    """
    return jnp.where(binary == 1, label, 0).astype(jnp.int32)
