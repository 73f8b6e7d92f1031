"""One parser for threads, coroutines and spawned processes: the results of one call after another.

It is the model in the box, with the detector where it is installed.
"""

import asyncio
import concurrent.futures
import multiprocessing
import pathlib

import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax import FaceParser

PORTRAIT = pathlib.Path(__file__).parents[2] / "docs" / "astronaut.jpg"


@pytest.fixture(scope="module")
def photographs():
    """Of the portrait, turned and mirrored, in two sizes."""
    with PIL.Image.open(PORTRAIT) as file:
        portrait = np.asarray(file.convert("RGB"))
    cropped = portrait[:256, 96:352]
    return [cropped, np.rot90(cropped), portrait[:, ::-1]]


@pytest.fixture(scope="module")
def parser():
    return FaceParser(batch_size=1, wide_margin=0)


@pytest.fixture(scope="module")
def expected(parser, photographs):
    return [parser(photograph) for photograph in photographs]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.label, b.label)
        np.testing.assert_array_equal(a.instances, b.instances)
        assert a.to_json() == b.to_json()


@pytest.mark.parametrize("backend", ["openvino", "onnx", "jax"])
def test_threads(backend, photographs):
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    parser = FaceParser(backend=backend, batch_size=1, wide_margin=0)
    expected = [parser(photograph) for photograph in photographs]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert_same(pool.map(parser, photographs, timeout=300), expected)


def test_coroutines_hold_up_no_other(parser, photographs, expected):
    async def parse():
        called = asyncio.gather(*(asyncio.to_thread(parser, each) for each in photographs))
        num_turns = 0
        while not called.done():
            await asyncio.sleep(0.001)
            num_turns += 1
        return await called, num_turns

    found, num_turns = asyncio.run(parse())
    assert_same(found, expected)
    assert num_turns > 5


def test_a_spawned_process_is_given_one_and_sends_results(parser, photographs, expected):
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn, _keep, (parser,)) as pool:
        found = list(pool.map(_parsed, photographs, timeout=300))
    assert_same(found, expected)
    for ours, sent in zip(expected, found, strict=True):
        np.testing.assert_array_equal(sent.image, ours.image)
        np.testing.assert_array_equal(sent.mask("eyes"), ours.mask("eyes"))
        np.testing.assert_array_equal(sent.probabilities("hair"), ours.probabilities("hair"))


_kept = []


def _keep(parser):
    _kept.append(parser)


def _parsed(photograph):
    return _kept[0](photograph)
