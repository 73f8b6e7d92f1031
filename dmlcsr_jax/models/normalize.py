"""Pixel normalisation, on the device, the same for training, evaluation and prediction."""

import jax.numpy as jnp

from dmlcsr_jax.models.metadata import Metadata


def normalize(images, metadata: Metadata, dtype=jnp.float32):
    """Normalises RGB bytes as a checkpoint's metadata says.

    Args:
      images: uint8 or floating `[..., 3]`, RGB, 0 to 255.
      metadata: `channel_order`, in which the network is fed; `mean` and `std`, applied to the
        channels in that order, on the scale of 0 to 1.
      dtype: floating dtype of the result.

    Returns:
      `[..., 3]` of `dtype`: `(images / 255 - mean) / std` in `channel_order`.
    """
    if metadata.channel_order == "bgr":
        images = images[..., ::-1]
    scaled = images.astype(dtype) / 255
    return (scaled - jnp.asarray(metadata.mean, dtype)) / jnp.asarray(metadata.std, dtype)
