"""Cross-entropies against PyTorch."""

import pytest
from reference_losses import (
    IGNORE,
    assert_same_value_and_gradient,
    draw_labels,
    draw_logits,
    torch_cross_entropy,
    torch_edge_cross_entropy,
)

from dmlcsr_jax.losses import cross_entropy


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (cross_entropy.cross_entropy, torch_cross_entropy),
        (cross_entropy.edge_cross_entropy, torch_edge_cross_entropy),
    ],
)
def test_cross_entropies_are_pytorchs(ours, theirs):
    label = draw_labels(0)
    logits = draw_logits(1, (*label.shape, 5))
    assert_same_value_and_gradient(
        lambda x: ours(x, label, IGNORE), lambda x: theirs(x, label), logits
    )
