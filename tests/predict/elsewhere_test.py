"""The shipped model's parser in other processes."""

import multiprocessing
import pathlib

import numpy as np
import pytest

from dmlcsr_jax import FaceParser

PORTRAIT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "astronaut.jpg"


def label_of(parser):
    return parser(PORTRAIT).label


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_parser_goes_to_other_processes(method):
    parser = FaceParser()
    with multiprocessing.get_context(method).Pool(1) as pool:
        there = pool.apply(label_of, (parser,))
    np.testing.assert_array_equal(there, label_of(parser))
