"""What the page remembers is bounded, for all visits together."""

import numpy as np
import pytest

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.demo import results as results_lib
from dmlcsr_jax.demo.results import Results
from dmlcsr_jax.predict.result import Result

BYTES_PER_PIXEL = 5


def result(height):
    image, label = np.zeros((height, 10, 3), np.uint8), np.zeros((height, 10), np.uint8)
    return Result(image, label, label, [], label_sets.get("helen"))


def test_the_oldest_are_forgotten_where_the_memory_is_full():
    results = Results(num_bytes=3 * 100 * BYTES_PER_PIXEL, seconds=100)
    made = [result(10) for _ in range(4)]
    keys = [results.add(each) for each in made]
    assert [results.get(key) for key in keys] == [None, *made[1:]]
    large = result(1000)
    key = results.add(large)
    assert results.get(key) is large
    assert [results.get(key) for key in keys] == [None] * 4


def test_after_the_stated_time_they_are_forgotten(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(results_lib.time, "monotonic", lambda: now)
    results = Results(num_bytes=10**6, seconds=600)
    key = results.add(result(10))
    now += 599
    assert results.get(key) is not None
    now += 2
    assert results.get(key) is None


@pytest.mark.parametrize("key", [None, "", "guess"])
def test_a_key_that_is_none_has_no_result(key):
    assert Results(10**6, 600).get(key) is None
