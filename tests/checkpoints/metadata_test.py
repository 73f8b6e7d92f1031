"""What a run writes beside its parameters."""

import pytest

from configs import synthetic
from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.data import label_sets


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
