"""The encoder agrees with PyTorch layers; strides, dilation and grid are as said."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_efficientnet
import torch

from dmlcsr_jax import models
from dmlcsr_jax.checkpoints.model import named_leaves
from dmlcsr_jax.convert_torch import names
from dmlcsr_jax.models import layers
from dmlcsr_jax.models.efficientnet import EfficientNetLite

NORM = functools.partial(layers.ABN, use_running_average=True)


def encode(variables, images, encoder="efficientnet_lite0", **options):
    network = EfficientNetLite(encoder, layers.conv, NORM, **options)
    # Compiled as one program: the depthwise convolutions' slices are hundreds of small ones.
    return jax.jit(network.apply)(variables, images)


@functools.cache
def drawn(encoder="efficientnet_lite0"):
    """Variables of the encoder under both names; statistics as far from 0 and 1 as real ones."""
    network = models.DMLCSR(encoder, 3, output_stride=32)
    variables = models.initial_variables(network, 0, 64)
    rng = np.random.default_rng(0)
    state_dict, variables_of_encoder = {}, {}
    for name, leaf in named_leaves(
        {k: {"encoder": v["encoder"]} for k, v in variables.items()}
    ).items():
        path = tuple(name.split("/"))
        if path[-1] in ("scale", "var"):
            leaf = rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        elif path[-1] in ("bias", "mean"):
            leaf = rng.standard_normal(leaf.shape).astype(np.float32)
        names.insert(variables_of_encoder, (path[0], *path[2:]), leaf)
        state_dict[names.efficientnet_name(path)] = names.to_torch_layout(path, leaf)
    return variables_of_encoder, state_dict


SIZES = [(64, 96), (65, 33), (47, 70)]


@pytest.mark.parametrize(
    ("encoder", "hw", "output_stride"),
    [
        ("efficientnet_lite0", SIZES[0], 32),
        *itertools.product(["efficientnet_lite0"], SIZES, (16, 8)),
        ("efficientnet_lite1", SIZES[2], 16),
        ("efficientnet_lite2", SIZES[2], 16),
    ],
)
def test_features_are_those_of_pytorch_layers(encoder, hw, output_stride):
    variables, state_dict = drawn(encoder)
    images = np.random.default_rng(1).standard_normal((2, *hw, 3)).astype(np.float32)
    ours = encode(variables, images, encoder, output_stride=output_stride)
    tensors = {name: torch.tensor(value) for name, value in state_dict.items()}
    theirs = reference_efficientnet.features(tensors, images, output_stride, encoder)
    channels = reference_efficientnet.CHANNELS[encoder]
    assert [x.shape[-1] for x in ours] == [channels[index] for index in (1, 2, 4, 6)]
    for x, y in zip(ours, theirs, strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, atol=1e-4 * np.abs(y).max())


@pytest.mark.parametrize(
    ("output_stride", "grids"), [(32, (4, 8, 16, 32)), (16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))]
)
def test_grids_and_channels(output_stride, grids):
    images = jax.ShapeDtypeStruct((1, 97, 65, 3), jnp.float32)
    encoder = EfficientNetLite("efficientnet_lite0", layers.conv, NORM, output_stride=output_stride)
    features, _ = jax.eval_shape(
        lambda images: encoder.init_with_output(jax.random.key(0), images), images
    )
    assert [x.shape for x in features] == [
        (1, 96 // grid + 1, 64 // grid + 1, channels)
        for grid, channels in zip(grids, (24, 40, 112, 320), strict=True)
    ]


def test_without_dilation_only_the_grid_is_finer():
    variables, _ = drawn()
    images = np.random.default_rng(1).standard_normal((1, 65, 65, 3)).astype(np.float32)
    dilated = encode(variables, images, output_stride=16)
    plain = encode(variables, images, output_stride=16, dilated=False)
    for i in range(3):
        np.testing.assert_array_equal(dilated[i], plain[i])
    assert np.abs(np.asarray(dilated[3] - plain[3])).max() > 0.01


def mirror(x):
    return x[:, :, ::-1]


@pytest.mark.parametrize(("size", "is_symmetric"), [(65, True), (64, False)])
def test_a_mirrored_image_of_32_n_plus_1_pixels_has_mirrored_features(size, is_symmetric):
    variables, _ = drawn()
    # Of mirrored kernels everything is mirrored but the grid.
    kernels_mirrored = jax.tree.map(
        lambda leaf: leaf[:, ::-1] if leaf.ndim == 4 else leaf, variables
    )
    images = np.random.default_rng(1).standard_normal((1, size, size, 3)).astype(np.float32)
    plain = encode(variables, images)
    mirrored = encode(kernels_mirrored, mirror(images))
    for x, y in zip(plain, mirrored, strict=True):
        difference = np.abs(np.asarray(x) - mirror(np.asarray(y))).max()
        assert (difference < 1e-3 * np.abs(x).max()) == is_symmetric


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_the_heads_take_every_output_stride(output_stride):
    network = models.DMLCSR("efficientnet_lite0", 19, output_stride=output_stride)
    images = jax.ShapeDtypeStruct((2, 97, 65, 3), jnp.float32)
    outputs, variables = jax.eval_shape(
        lambda images: network.init_with_output(jax.random.key(0), images, train=True), images
    )
    assert {name: x.shape for name, x in outputs.items()} == {
        "parsing": (2, 25, 17, 19),
        "binary_edge": (2, 25, 17, 2),
        "category_edge": (2, 25, 17, 19),
    }
    assert ("middle" in variables["params"]["parsing"]) == (output_stride > 8)


@pytest.mark.parametrize(
    ("encoder", "released"),
    [
        ("efficientnet_lite0", 2_958_848),
        ("efficientnet_lite1", 3_723_520),
        ("efficientnet_lite2", 4_357_952),
    ],
)
def test_its_parameters_are_those_of_the_released_network(encoder, released):
    variables, _ = drawn(encoder)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == released


@pytest.mark.slow
def test_bfloat16_features_are_near():
    variables, _ = drawn()
    images = np.random.default_rng(1).standard_normal((2, 33, 33, 3)).astype(np.float32)
    partials = (functools.partial(layer, dtype=jnp.bfloat16) for layer in (layers.conv, NORM))
    rounded = EfficientNetLite("efficientnet_lite0", *partials).apply(variables, images)
    for x, y in zip(encode(variables, images), rounded, strict=True):
        assert y.dtype == jnp.bfloat16
        x, y = np.asarray(x), np.asarray(y, np.float32)
        assert np.abs(x - y).mean() < 0.05 * np.abs(x).mean()
