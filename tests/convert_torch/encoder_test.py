"""An encoder that starts from an ImageNet ResNet."""

import jax
import numpy as np
import pytest
import reference_torch
import torch

from dmlcsr_jax import models
from dmlcsr_jax.convert_torch.encoder import load_encoder
from dmlcsr_jax.convert_torch.network import to_state_dict
from dmlcsr_jax.errors import UserError

RESNET18 = {"bottleneck": False, "num_blocks": (2, 2, 2, 2)}


def _imagenet(seed=0, **architecture):
    """An ImageNet classifier's state_dict under torchvision's names, drawn."""
    torch.manual_seed(seed)
    network = reference_torch.Network(2, edges=False, **architecture)
    state = {}
    for name, value in network.state_dict().items():
        if not name.startswith(("context", "layer6")):
            state[name] = torch.randn_like(value)
            if name.endswith("running_var"):
                state[name].abs_()
                stem = name.removesuffix("running_var")
                state[stem + "num_batches_tracked"] = torch.tensor(7)
    return state | {"fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000)}


def _load(state, tmp_path, encoder, stem):
    torch.save(state, tmp_path / "imagenet.pth")
    fresh = models.initial_variables(models.DMLCSR(encoder, 5, stem=stem), 0, 64)
    params, batch_stats, report = load_encoder(
        tmp_path / "imagenet.pth", fresh["params"], fresh["batch_stats"], encoder, stem
    )
    loaded = {"params": params, "batch_stats": batch_stats}
    assert jax.tree.map(np.shape, loaded) == jax.tree.map(np.shape, fresh)
    for tree in ("params", "batch_stats"):
        for branch in ("context", "parsing", "edge"):
            assert loaded[tree][branch] is fresh[tree][branch]
    return fresh, to_state_dict(loaded), report


@pytest.mark.parametrize(
    ("encoder", "stem", "architecture"),
    [
        ("resnet18", "conv7", {**RESNET18, "conv7": True}),
        ("resnet101", "deep", {}),
        pytest.param("resnet101", "conv7", {"conv7": True}, marks=pytest.mark.slow),
        pytest.param(
            "resnet50",
            "conv7",
            {"num_blocks": (3, 4, 6, 3), "conv7": True},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_imagenet_weights_fill_the_encoder(tmp_path, encoder, stem, architecture):
    state = _imagenet(**architecture)
    _, got, report = _load(state, tmp_path, encoder, stem)
    counted = {name for name in state if not name.endswith("num_batches_tracked")}
    assert set(report.loaded) == counted - {"fc.weight", "fc.bias"}
    assert report.skipped == ("fc.weight", "fc.bias")
    assert report.fresh == ()
    for name in report.loaded:
        np.testing.assert_array_equal(got[name], state[name].numpy())
    assert "skipped 2: fc.weight, fc.bias; left fresh none" in str(report)


def test_the_stem_may_be_one_sequence(tmp_path):
    state = _imagenet(**RESNET18)
    parts = {"conv1": "conv1.0", "bn1": "conv1.1", "conv2": "conv1.3", "bn2": "conv1.4"}
    parts |= {"conv3": "conv1.6", "bn3": "bn1"}
    renamed = {}
    for name, value in state.items():
        module, _, rest = name.partition(".")
        renamed[f"{parts.get(module, module)}.{rest}"] = value
    _, got, report = _load(renamed, tmp_path, "resnet18", "deep")
    assert report.fresh == ()
    for name in ("conv1.weight", "bn1.bias", "conv3.weight", "bn3.running_var"):
        np.testing.assert_array_equal(got[name], state[name].numpy())


def test_what_does_not_fit_stays_fresh_together_with_its_norm(tmp_path):
    state = _imagenet(**RESNET18, conv7=True)
    fresh, got, report = _load(state, tmp_path, "resnet18", "deep")
    before = to_state_dict(fresh)
    # The 7x7 convolution does not fit the deep stem, so its norm, whose shape would, stays too.
    assert {"conv1.weight", "bn1.weight", "bn1.running_mean"} <= set(report.fresh)
    assert "conv1.weight" in report.skipped
    assert "layer4.1.bn2.running_var" in report.loaded
    for name in report.fresh:
        np.testing.assert_array_equal(got[name], before[name])
    for name in report.loaded:
        np.testing.assert_array_equal(got[name], state[name].numpy())
    assert f"left fresh {len(report.fresh)}: conv1.weight" in str(report)


def test_a_file_that_fits_nothing_is_an_error(tmp_path):
    with pytest.raises(
        UserError, match=r"nothing in .*imagenet\.pth fits the encoder tiny"
    ) as error:
        _load(_imagenet(**RESNET18), tmp_path, "tiny", "deep")
    assert "(64, 3, 3, 3) where (16, 3, 3, 3)" in str(error.value)
    with pytest.raises(UserError, match="nothing in"):
        _load({"features.0.weight": torch.zeros(3)}, tmp_path, "tiny", "deep")
