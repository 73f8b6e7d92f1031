"""What a run writes beside its parameters."""

import dataclasses
import json

import pytest
from small_checkpoints import METADATA

from configs import synthetic
from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError


@pytest.mark.parametrize("crop_margin", [None, 0.25])
def test_a_network_says_what_it_was_shown(crop_margin):
    config = synthetic.get_config()
    config.data.channel_order = "bgr"
    config.data.mean = (0.1, 0.2, 0.3)
    config.data.crop_margin = crop_margin
    metadata = Metadata.from_config(config)
    assert metadata.image_size == config.data.image_size
    assert metadata.label_set == label_sets.get(config.data.label_set)
    assert (metadata.channel_order, metadata.mean) == ("bgr", (0.1, 0.2, 0.3))
    assert metadata.crop_margin == crop_margin


@pytest.mark.parametrize("crop_margin", [None, 0.25])
def test_metadata_survives_json(crop_margin):
    metadata = dataclasses.replace(METADATA, crop_margin=crop_margin)
    assert Metadata.from_json(json.loads(json.dumps(metadata.to_json()))) == metadata


def test_metadata_of_another_version_is_refused():
    data = METADATA.to_json()
    del data["std"]
    with pytest.raises(UserError, match="std"):
        Metadata.from_json(data)


@pytest.mark.parametrize(
    "change",
    [{"label_set": 3}, {"mean": None}, {"std": 1.0}, None],
    ids=["label set", "mean", "std", "no dict"],
)
def test_metadata_of_the_wrong_types_is_refused(change):
    data = None if change is None else METADATA.to_json() | change
    with pytest.raises(UserError, match="the checkpoint's metadata is damaged"):
        Metadata.from_json(data)


def test_metadata_older_than_a_field_gets_its_default():
    data = METADATA.to_json()
    del data["output_stride"], data["dilated"]
    assert Metadata.from_json(data) == METADATA
