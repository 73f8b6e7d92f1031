"""What is used of Grain beyond its stable interface is there."""

import inspect

import grain
import pytest


@pytest.mark.parametrize("name", ["WithOptionsIterDataset", "DatasetOptions"])
def test_experimental_names_are_there(name):
    assert hasattr(grain.experimental, name), (
        f"grain.experimental.{name} is gone: see grain_private"
    )


@pytest.mark.parametrize(
    ("function", "parameter"),
    [
        (grain.IterDataset.mp_prefetch, "worker_init_fn"),
        (getattr(grain.experimental, "DatasetOptions", None), "min_shm_size"),
    ],
)
def test_parameters_are_there(function, parameter):
    known = inspect.signature(function).parameters
    assert parameter in known, f"Grain's {parameter} is gone: see grain_private"


def test_iterators_can_be_closed():
    assert hasattr(grain.DatasetIterator, "close"), "grain.DatasetIterator.close is gone"
