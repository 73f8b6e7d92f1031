"""What a run writes beside its parameters."""

import dataclasses
import json

import pytest
from dmlcsr_jax.configs import synthetic
from small_checkpoints import METADATA

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.metadata import Metadata


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
    del data["output_stride"], data["dilated"], data["multi_scale_parsing"]
    assert Metadata.from_json(data) == METADATA


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mean", [0.1, float("nan"), 0.3]),
        ("mean", [0.1, 0.2]),
        ("mean", ["a", "b", "c"]),
        ("std", [0.1, 0.0, 0.3]),
        ("std", [0.1, float("inf"), 0.3]),
        ("std", [0.1, -0.2, 0.3]),
        ("mean", [1e30, 0.2, 0.3]),
        ("mean", [10**400, 0.2, 0.3]),
        ("std", [0.1, 1e-320, 0.3]),
        ("std", [0.1, 1e30, 0.3]),
        ("width", 10**400),
        ("channel_order", "gbr"),
        ("channel_order", ["rgb"]),
        ("image_size", 15),
        ("image_size", 5000),
        ("image_size", 473.0),
        ("image_size", "473"),
        ("image_size", True),
        ("width", float("nan")),
        ("width", 0),
        ("width", 1e300),
        ("crop_margin", float("inf")),
        ("crop_margin", -1),
        ("crop_margin", "wide"),
        ("encoder", 3),
        ("stem", None),
        ("edge_branch", "yes"),
        ("output_stride", 0),
        ("dilated", 1),
    ],
)
def test_impossible_metadata_is_refused_by_field(field, value):
    with pytest.raises(UserError, match=f"metadata is damaged .the network's {field} is "):
        Metadata.from_json(METADATA.to_json() | {field: value})
    with pytest.raises(UserError, match=f"the network's {field} is "):
        dataclasses.replace(METADATA, **{field: value})
