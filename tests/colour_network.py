"""A network that labels pixels by their colour, for tests of prediction: nothing to train."""

import dataclasses

import numpy as np

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.predict import jax_network, networks

SIZE = 32
LABEL_SET = label_sets.HELEN
# Colour k is labelled k: far apart, so that JPEG does not mix them up.
COLOURS = np.array(
    [
        [0, 0, 0],
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 0],
        [255, 0, 255],
        [0, 255, 255],
        [255, 255, 255],
        [128, 128, 128],
        [128, 0, 0],
        [0, 0, 128],
    ],
    np.uint8,
)
METADATA = Metadata(
    encoder="tiny",
    stem="deep",
    width=1.0,
    image_size=SIZE,
    channel_order="rgb",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    label_set=LABEL_SET,
    edge_branch=False,
)


class ColourNetwork:
    """The logit of a class falls with the squared distance from its colour."""

    num_traces = 0

    def apply(self, variables, images, *, train):
        assert train is False
        type(self).num_traces += 1
        colours = variables["params"]["colours"]
        return {"parsing": 2 * images @ colours.T - (colours**2).sum(axis=1)}


def install(patch, seed=0, crop_margin=None, size=SIZE, network=ColourNetwork):
    """Puts the network in the place of any checkpoint; `patch` is like `monkeypatch.setattr`.

    Checkpoints of different seeds differ in a tensor that plays no part.
    """
    metadata = dataclasses.replace(METADATA, crop_margin=crop_margin, image_size=size)
    variables = {
        "params": {"colours": COLOURS.astype(np.float32) / 255, "seed": np.float32(seed)},
        "batch_stats": {},
    }
    patch(networks, "may_have_accelerator", lambda: True)  # An ONNX runtime would run the default.
    patch(model, "load_model", lambda checkpoint: (metadata, variables))
    patch(jax_network, "build_model", lambda metadata, dtype: network())


def picture(labels, cell=16):
    """Returns uint8 RGB `[h * cell, w * cell, 3]`: cells of the colours of `labels` `[h, w]`."""
    return np.kron(COLOURS[np.asarray(labels)], np.ones((cell, cell, 1), np.uint8))


def truth(labels, cell=16):
    """Returns uint8 `[h * cell, w * cell]`, the labels of `picture`."""
    return np.kron(np.asarray(labels, np.uint8), np.ones((cell, cell), np.uint8))


def interior(labels, cell=16, margin=4):
    """Returns where `picture` is further than `margin` pixels from a border of cells."""
    h, w = np.asarray(labels).shape
    inside = np.zeros((cell, cell), bool)
    inside[margin:-margin, margin:-margin] = True
    return np.tile(inside, (h, w))
