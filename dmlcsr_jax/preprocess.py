"""Pixel normalisation, on the device, the same for training, evaluation and prediction."""

import jax.numpy as jnp


def normalize(images, *, channel_order, mean, std, dtype=jnp.float32):
    """Normalises RGB bytes as a checkpoint's metadata says.

    Args:
      images: uint8 `[..., 3]`, RGB, 0 to 255.
      channel_order: "rgb" or "bgr", the order in which the network is fed; `mean` and `std` are
        applied to the channels in that order.
      mean: three floats, on the scale of 0 to 1.
      std: three positive floats, on the scale of 0 to 1.
      dtype: floating dtype of the result.

    Returns:
      `[..., 3]` of `dtype`: `(images / 255 - mean) / std` in `channel_order`.
    """
    if channel_order == "bgr":
        images = images[..., ::-1]
    scaled = images.astype(dtype) / 255
    return (scaled - jnp.asarray(mean, dtype)) / jnp.asarray(std, dtype)
