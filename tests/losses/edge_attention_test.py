"""Edge attention against PyTorch."""

import jax.numpy as jnp
import numpy as np
import pytest
from reference_losses import (
    IGNORE,
    assert_same_value_and_gradient,
    draw_labels,
    draw_logits,
    torch_edge_attention,
)

from dmlcsr_jax.losses import cross_entropy, edge_attention, edge_targets


@pytest.mark.parametrize("targets", ["binary", "category"])
def test_edge_attention_is_the_edge_pixels_cross_entropy(targets):
    label = draw_labels(8)
    logits = draw_logits(9, (*label.shape, 5))
    edge = edge_targets.binary_edge(jnp.asarray(label))
    if targets == "category":
        edge = edge_targets.category_edge(jnp.asarray(label), edge)
    edge = np.asarray(edge)
    assert not edge[-1].any()

    def ours(x):
        return edge_attention.edge_attention(cross_entropy.pixel_cross_entropy(x, label), edge)

    assert_same_value_and_gradient(ours, lambda x: torch_edge_attention(x, label, edge), logits)


def test_edge_attention_skips_ignored_edges():
    per_pixel = jnp.asarray([[[1.0, 2.0, 4.0]]])
    assert float(edge_attention.edge_attention(per_pixel, jnp.asarray([[[3, IGNORE, 0]]]))) == 1.0
