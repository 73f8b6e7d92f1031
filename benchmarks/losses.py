"""Time and memory of the losses on the machine at hand.

    python -m benchmarks.losses

First compares ways to rank the errors of the Lovász-softmax loss, each as value and gradient of the
complete loss, all in one run and in turn, so that a busy machine slows them alike. The first is the
loss as the paper writes it: a float argsort, and differences of neighbouring Jaccard losses. Its
error shows why the library takes those differences in closed form. Then the memory that the
complete objective needs besides inputs and outputs, compiled, not run, at the paper's input size.
"""

import argparse
import collections
import functools
import time
from collections.abc import Sequence
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from tabulate import tabulate

from dmlcsr_jax.losses import cross_entropy, lovasz
from dmlcsr_jax.losses.objective import at_label_size, objective

# Neither time nor memory depends on the factors.
WEIGHTS = collections.defaultdict(lambda: 1.0)


def neighbours_difference(is_class):
    """The Jaccard steps of a ranked class as the paper's code takes them, in float32."""
    total = is_class.sum()
    ranked = jnp.cumsum(is_class)
    intersection = (total - ranked).astype(jnp.float32)
    union = (total + jnp.arange(1, is_class.size + 1) - ranked).astype(jnp.float32)
    return jnp.diff(1 - intersection / union, prepend=0)


def by_float_argsort(keys, steps_in_order=neighbours_difference):
    """Argsort of float errors, gather, and scatter of the steps."""
    errors = lax.bitcast_convert_type(lovasz.ONE - (keys >> 1), jnp.float32)

    def one_class(errors, is_class):
        position = jnp.argsort(-errors)
        return lovasz.at_position(steps_in_order(is_class[position]), position)

    return jax.vmap(one_class)(errors, (keys & 1).astype(jnp.int32))


def by_float_argsort_closed(keys):
    """The same with the closed form, which takes keys."""
    return by_float_argsort(keys, lovasz.steps_in_order)


def by_float_payload(keys):
    """One sort of float errors with class bit and position as payload."""
    errors = lax.bitcast_convert_type(lovasz.ONE - (keys >> 1), jnp.float32)

    def one_class(errors, is_class):
        position = lax.iota(jnp.int32, errors.size)
        _, is_class, position = lax.sort((-errors, is_class, position), num_keys=1)
        return lovasz.at_position(lovasz.steps_in_order(is_class), position)

    return jax.vmap(one_class)(errors, (keys & 1).astype(jnp.int32))


def by_sort(sort):
    """One class's keys sorted by `sort`, and the steps scattered."""

    def one_class(keys):
        keys, position = sort(keys)
        return lovasz.at_position(lovasz.steps_in_order(keys), position)

    return one_class


def by_pairs_sorted_back(keys):
    """A second sort in the place of the scatter."""
    keys, position = lovasz.sort_pairs(keys)
    return lax.sort((position, lovasz.steps_in_order(keys)), num_keys=1)[1]


def in_parts(one_class, parts=4):
    """Independent sorts, which XLA runs in several threads; each sort runs in one."""
    return lambda keys: jnp.concatenate(
        [jax.vmap(one_class)(part) for part in jnp.array_split(keys, min(parts, len(keys)))]
    )


def after_another(one_class):
    """Class after class, as the library does it."""
    return functools.partial(lax.map, one_class)


PAIRS, WIDE = by_sort(lovasz.sort_pairs), by_sort(lovasz.sort_wide_keys)
FORMULATIONS = {
    "float argsort, differences": by_float_argsort,
    "float argsort, closed form": by_float_argsort_closed,
    "float sort with payload": by_float_payload,
    "pairs, classes at once": jax.vmap(PAIRS),
    "pairs, sorted back": jax.vmap(by_pairs_sorted_back),
    "pairs, class after class (accelerators)": after_another(PAIRS),
    "wide keys, classes at once": jax.vmap(WIDE),
    "wide keys, in parts": in_parts(WIDE),
    "wide keys, class after class (CPU)": after_another(WIDE),
}


def true_steps(probabilities, label):
    """Returns the first class's steps `[P]` in double precision."""
    is_class = label.ravel() == 0
    probability = probabilities[..., 0].ravel()
    errors = np.where(is_class, np.float32(1) - probability, probability)
    order = np.argsort(-errors, kind="stable")
    ranked = np.cumsum(is_class[order])
    union = is_class.sum() + np.arange(1, errors.size + 1) - ranked
    steps = np.empty(errors.size)
    steps[order] = np.diff(1 - (is_class.sum() - ranked) / union, prepend=0)
    return steps


def compare_formulations(shape, classes, repeats):
    """Prints the table of times."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, shape).astype(np.int32)
    logits = rng.normal(scale=2, size=(*shape, classes)) + 4 * np.eye(classes)[label]
    logits, label = jnp.asarray(logits, jnp.float32), jnp.asarray(label)
    probabilities = jax.nn.softmax(logits)
    truth = true_steps(np.asarray(probabilities), np.asarray(label))
    is_class = (label.ravel() == 0)[None]
    errors = jnp.where(is_class, 1 - probabilities[..., 0].ravel(), probabilities[..., 0].ravel())
    keys = lovasz.rank_keys(errors, is_class, jnp.ones_like(is_class))

    compiled, figures = {}, {}
    for name, formulation in FORMULATIONS.items():
        with mock.patch.object(lovasz, "jaccard_steps", formulation):
            loss = jax.value_and_grad(lambda x: lovasz.lovasz_softmax(x, label))
            compiled[name] = jax.jit(loss).lower(logits).compile()
        steps = np.asarray(jax.jit(formulation)(keys)[0], np.float64)
        error = np.abs(steps - truth).sum() / truth.sum()
        figures[name] = [compiled[name].memory_analysis().temp_size_in_bytes / 2**20, error]
    seconds = {name: [] for name in compiled}
    for _ in range(repeats):
        for name, function in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(function(logits))
            seconds[name].append(time.perf_counter() - start)
    reference = min(seconds["float argsort, differences"])
    rows = [
        [name, min(times), np.median(times), reference / min(times), *figures[name]]
        for name, times in seconds.items()
    ]
    print(
        f"Lovász-softmax, value and gradient, {'x'.join(map(str, shape))} pixels, "
        f"{classes} classes, {repeats} runs, {jax.devices()[0].device_kind}\n"
    )
    headers = ["ranking", "best s", "median s", "times as fast", "MiB", "error of steps"]
    print(tabulate(rows, headers, floatfmt=("", ".3f", ".3f", ".2f", ".0f", ".1e")))


def print_memory(batch, size, classes):
    """Prints the compiled objective's temporary memory."""
    quarter = (size - 1) // 4 + 1

    def logits(channels):
        return jax.ShapeDtypeStruct((batch, quarter, quarter, channels), jnp.float32)

    outputs = {
        "parsing": logits(classes),
        "binary_edge": logits(2),
        "category_edge": logits(classes),
    }
    label = jax.ShapeDtypeStruct((batch, size, size), jnp.int32)
    copy = batch * size * size * classes * 4

    def total(outputs, label, teacher=None):
        return objective(outputs, label, weights=WEIGHTS, teacher_outputs=teacher, cycle=2)

    def of_parsing(loss):
        return lambda outputs, label: loss(at_label_size(outputs["parsing"], label), label)

    gradient = functools.partial(jax.value_and_grad, has_aux=True)
    measured = {
        "objective, hard labels": (gradient(total), (outputs, label)),
        "objective, soft targets": (gradient(total), (outputs, label, outputs)),
        "cross-entropy alone": (
            jax.value_and_grad(of_parsing(cross_entropy.cross_entropy)),
            (outputs, label),
        ),
        "Lovász alone": (
            jax.value_and_grad(of_parsing(lovasz.lovasz_softmax)),
            (outputs, label),
        ),
    }
    rows = []
    for name, (function, arguments) in measured.items():
        row = [name]
        for ranking in (after_another(WIDE), after_another(PAIRS)):
            with mock.patch.object(lovasz, "jaccard_steps", ranking):
                compiled = jax.jit(lambda *a, f=function: f(*a)).lower(*arguments).compile()
            temporary = compiled.memory_analysis().temp_size_in_bytes
            row += [temporary / 2**20, temporary / copy]
        rows.append(row)
    print(
        f"\nTemporary memory, value and gradient, {batch}x{size}x{size} pixels, {classes} classes "
        f"(one float32 number for each: {copy / 2**20:.0f} MiB)\n"
    )
    headers = ["", "wide keys MiB", "copies", "pairs MiB", "copies"]
    print(tabulate(rows, headers, floatfmt=("", ".0f", ".1f", ".0f", ".1f")))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(16, 128, 128), metavar="N")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory_size", type=int, default=473, help="side of 4 images, pixels")
    arguments = parser.parse_args(argv)
    compare_formulations(tuple(arguments.shape), arguments.classes, arguments.repeats)
    print_memory(4, arguments.memory_size, arguments.classes)


if __name__ == "__main__":
    main()
