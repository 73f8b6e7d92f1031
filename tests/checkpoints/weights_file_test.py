"""A model as two small files: its numbers, what is refused, and the model in the box."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from dmlcsr_jax.configs import celebamask_hq_small
from small_checkpoints import METADATA, assert_same, random_variables

from dmlcsr_jax.checkpoints import model, ship, weights_file
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.models.initial import initial_variables
from dmlcsr_jax.training.warm_start import initial_weights


@pytest.fixture(scope="module")
def variables():
    return random_variables(METADATA)


@pytest.fixture
def path(tmp_path, variables):
    path = tmp_path / "mine.safetensors"
    weights_file.write(path, METADATA, model.named_leaves(variables))
    return path


def test_params_come_back_as_float16_has_them_and_batch_stats_exactly(path, variables):
    metadata, loaded = model.load_model(path)
    assert metadata == METADATA
    halves = {
        name: leaf.astype(np.float16).astype(np.float32)
        for name, leaf in model.named_leaves(variables["params"]).items()
    }
    assert halves.keys() == model.named_leaves(loaded["params"]).keys()
    for name, leaf in model.named_leaves(loaded["params"]).items():
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, halves[name])
    assert_same(loaded["batch_stats"], variables["batch_stats"])


def test_a_checkpoint_is_shipped_by_the_command(tmp_path, path, variables, capsys):
    model.save_model(tmp_path / "model", METADATA, **variables)
    shipped = tmp_path / "shipped.safetensors"
    ship.main([f"--checkpoint={tmp_path / 'model'}", f"--out={shipped}", "--license=Mine."])
    assert shipped.read_bytes() == path.read_bytes()
    assert weights_file.read(shipped)[0].license == "Mine."
    assert "million values" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "share"), [((), 0.5), (("--share=0.2",), 0.2)])
def test_the_mean_with_another_checkpoint_is_shipped(tmp_path, variables, options, share):
    other = random_variables(METADATA, seed=1)
    for name, tree in (("model", variables), ("other", other)):
        model.save_model(tmp_path / name, METADATA, **tree)
    shipped = tmp_path / "shipped.safetensors"
    ship.main(
        [
            f"--checkpoint={tmp_path / 'model'}",
            f"--out={shipped}",
            f"--average_with={tmp_path / 'other'}",
            *options,
        ]
    )
    found = weights_file.read(shipped)[1]
    ours, theirs = model.named_leaves(variables), model.named_leaves(other)
    for name, mean in found.items():
        expected = (1 - share) * ours[name] + share * theirs[name]
        np.testing.assert_allclose(mean, expected, rtol=2e-3, atol=1e-4)


def test_a_share_is_a_share(tmp_path, capsys):
    with pytest.raises(SystemExit):
        ship.main(["--checkpoint=default", f"--out={tmp_path / 'a'}", "--share=1.5"])
    assert "--share is 1.5; it must be from 0 to 1" in capsys.readouterr().err


def test_models_of_different_networks_have_no_mean(tmp_path, variables, capsys):
    wider = dataclasses.replace(METADATA, width=0.5)
    model.save_model(tmp_path / "model", METADATA, **variables)
    model.save_model(tmp_path / "wider", wider, **random_variables(wider))
    shipped = tmp_path / "shipped.safetensors"
    with pytest.raises(SystemExit):
        ship.main(
            [
                f"--checkpoint={tmp_path / 'model'}",
                f"--out={shipped}",
                f"--average_with={tmp_path / 'wider'}",
            ]
        )
    assert "are of different networks" in capsys.readouterr().err
    assert not shipped.exists()


def flip_a_bit(data):
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize("damage", [flip_a_bit, lambda data: data[:-100], lambda data: b""])
def test_damaged_tensors_are_refused(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"mine\.safetensors is damaged"):
        model.load_model(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"sha256": "", "metadata": 3}', "[" * 100_000]
)
def test_a_damaged_description_is_refused(path, text):
    path.with_suffix(".json").write_text(text)
    with pytest.raises(UserError, match="mine"):
        model.load_model(path)


def test_a_description_of_another_network_is_refused(path):
    about = json.loads(path.with_suffix(".json").read_text())
    about["metadata"]["width"] = 0.5
    path.with_suffix(".json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"has shape .* where .* is needed"):
        model.load_model(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_missing_file_is_named(path, suffix):
    path.with_suffix(suffix).unlink()
    with pytest.raises(UserError, match=rf"mine\{suffix} is not there"):
        model.load_model(path)


@pytest.mark.parametrize("value", [1e5, np.nan, -np.inf])
def test_values_that_float16_does_not_hold_are_refused(tmp_path, value):
    path = tmp_path / "mine.safetensors"
    with pytest.raises(UserError, match="params/a has values"):
        weights_file.write(path, METADATA, {"params/a": np.array([1.0, value])})
    assert not list(tmp_path.iterdir())


def test_the_model_in_the_box_needs_neither_jax_nor_torch_nor_orbax():
    code = """
import sys
for name in ("jax", "torch", "orbax"):
    sys.modules[name] = None
from dmlcsr_jax.checkpoints import weights_file
metadata, tensors = weights_file.read(weights_file.DEFAULT_FILE)
print(metadata.label_set.name, metadata.encoder, "non-commercial" in metadata.license)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["celebamask_hq", "efficientnet_lite0", "True"]
    files = weights_file.DEFAULT_FILE.parent.iterdir()
    assert sum(file.stat().st_size for file in files) <= 12e6


def test_training_starts_from_the_model_in_the_box():
    config = celebamask_hq_small.get_config()
    config.model.init_from = weights_file.DEFAULT
    metadata, tensors = weights_file.read(weights_file.DEFAULT_FILE)
    network = build_model(metadata, "float32")
    fresh = initial_variables(network, 0, metadata.image_size)
    found = model.named_leaves(initial_weights(config, metadata, fresh))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
