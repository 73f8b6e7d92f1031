"""Times of our layers beside Flax's and JAX's, at the sizes of the network at 473x473.

    python -m benchmarks.layers

Each layer alone, compiled: its value, then its value and gradients together. Both formulations are
run in turns in one process, so that a busy machine slows them alike; the ratio of the medians says
which to keep. Before, their values and gradients are compared.
"""

import argparse
import functools
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tabulate
from flax import linen as nn
from jax import lax

from dmlcsr_jax.models import layers


def library_resize(x, hw):
    """`layers.resize` by JAX's own function, for sides of 2 and more."""
    scale = (jnp.asarray(hw, x.dtype) - 1) / (jnp.asarray(x.shape[1:3], x.dtype) - 1)
    return jax.image.scale_and_translate(
        x,
        (x.shape[0], *hw, x.shape[3]),
        (1, 2),
        scale,
        # Positions are counted from the pixels' edges there.
        0.5 - 0.5 * scale,
        "linear",
        antialias=False,
        precision=lax.Precision.HIGHEST,
    )


def library_max_pool(x):
    """`layers.max_pool` by Flax's own function."""
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


def convolutions(features, kernel_size=1, **options):
    """Returns `layers.conv` and Flax's own convolution as functions of input and kernel."""
    module = layers.conv(features, kernel_size, **options)

    def apply(module, x, kernel):
        return module.apply({"params": {"kernel": kernel}}, x)

    library = module.clone(conv_general_dilated=None)
    return functools.partial(apply, module), functools.partial(apply, library)


def cases(batch_size, divisor):
    """Yields name, our function, the library's, and the shapes of their arguments.

    Args:
      batch_size: images.
      divisor: of sides and channels, for a quick look.
    """

    def small(number):
        return max(2, number // divisor)

    for side, channels, features, stride in (
        (119, 64, 256, 1),
        (119, 256, 512, 2),
        (60, 1024, 256, 1),
        (60, 256, 1024, 1),
        (119, 256, 19, 1),
    ):
        side, channels, features = small(side), small(channels), small(features)
        yield (
            f"1x1 convolution, {channels} to {features}, stride {stride}, {side}x{side}",
            *convolutions(features, stride=stride),
            [(batch_size, side, side, channels), (1, 1, channels, features)],
        )
    for side in (small(60), small(15)):
        channels = small(512)
        yield (
            f"depthwise convolution, {channels} channels, {side}x{side}",
            *convolutions(channels, 3, stride=2, groups=channels),
            [(batch_size, side, side, channels), (3, 3, 1, channels)],
        )
    side, channels = small(237), small(128)
    yield (
        f"max-pooling, {channels} channels, {side}x{side}",
        layers.max_pool,
        library_max_pool,
        [(batch_size, side, side, channels)],
    )
    for side, channels, result in ((8, 512, 60), (60, 256, 119), (119, 19, 473)):
        side, channels, result = small(side), small(channels), small(result)
        yield (
            f"resizing, {channels} channels, {side}x{side} to {result}x{result}",
            functools.partial(layers.resize, hw=(result, result)),
            functools.partial(library_resize, hw=(result, result)),
            [(batch_size, side, side, channels)],
        )


def with_gradients(function):
    """Returns the function that gives value and gradients; first the value's cotangent."""

    def value_and_gradients(cotangent, *arguments):
        value, pull_back = jax.vjp(function, *arguments)
        return value, pull_back(cotangent)

    return value_and_gradients


def difference(ours, theirs):
    """Returns the largest difference, as a share of the largest entry."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)


def compare(ours, library, shapes, seconds):
    """Returns median seconds of value (ours, library) and value with gradients, and difference."""
    rng = np.random.default_rng(0)
    arguments = [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]
    result = jax.eval_shape(ours, *arguments)
    cotangent = jnp.asarray(rng.standard_normal(result.shape), jnp.float32)
    programs = [(jax.jit(f), arguments) for f in (ours, library)]
    programs += [(jax.jit(with_gradients(f)), [cotangent, *arguments]) for f in (ours, library)]
    results = [jax.block_until_ready(program(*inputs)) for program, inputs in programs]
    times = [[] for _ in programs]
    start = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - start < seconds:
        for taken, (program, inputs) in zip(times, programs, strict=True):
            before = time.perf_counter()
            jax.block_until_ready(program(*inputs))
            taken.append(time.perf_counter() - before)
    return *(float(np.median(taken)) for taken in times), difference(results[2], results[3])


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=6, help="spent on each layer")
    parser.add_argument("--divisor", type=int, default=1, help="of sides and channels")
    arguments = parser.parse_args(argv)
    rows = []
    for name, *functions, shapes in cases(arguments.batch_size, arguments.divisor):
        ours, library, both, library_both, error = compare(*functions, shapes, arguments.seconds)
        ratios = library / ours, library_both / both
        rows.append([name, ours * 1e3, both * 1e3, *ratios, error])
    print(f"batch {arguments.batch_size}, jax {jax.__version__}, {jax.devices()[0].device_kind}\n")
    headers = [
        "ours",
        "ms",
        "with gradients ms",
        "library's / ours",
        "with gradients",
        "difference",
    ]
    print(tabulate.tabulate(rows, headers, floatfmt=("", ".2f", ".2f", ".2f", ".2f", ".0e")))


if __name__ == "__main__":
    main()
