"""Weights of another checkpoint to start from."""

import dataclasses

import jax
import numpy as np
import pytest
from dmlcsr_jax.configs import synthetic
from small_checkpoints import METADATA, random_variables

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.training.warm_start import initial_weights, untaught_edges


def config_from(checkpoint):
    config = synthetic.get_config()
    config.model.init_from = str(checkpoint)
    return config


@pytest.mark.parametrize(
    ("init_from", "weight", "left_out"),
    [
        ("", 0.2, set()),
        ("", 0.0, {"predicted_category_edge"}),
        ("runs/mine", 0.2, set()),
        ("default", 0.2, {"predicted_category_edge"}),
        ("mine.safetensors", 0.2, {"predicted_category_edge"}),
    ],
)
def test_panels_leave_out_edges_that_nothing_has_taught(init_from, weight, left_out):
    config = config_from(init_from)
    config.loss.weights.category_edge = weight
    assert untaught_edges(config) == left_out


def test_every_field_of_another_network_is_named(tmp_path):
    model.save_model(tmp_path / "model", METADATA, **random_variables(METADATA))
    other = dataclasses.replace(METADATA, width=1.0, channel_order="rgb")
    with pytest.raises(UserError, match=r"channel_order \('bgr' there, 'rgb' here\)") as error:
        initial_weights(config_from(tmp_path / "model"), other, random_variables(other))
    assert "config.model.width (0.25 there, 1.0 here)" in str(error.value)
    assert "encoder" not in str(error.value)


def test_a_network_that_gets_more_depths_starts_as_the_one_without(tmp_path):
    theirs = random_variables(METADATA)
    model.save_model(tmp_path / "model", METADATA, **theirs)
    other = dataclasses.replace(METADATA, multi_scale_parsing=True)
    fresh = random_variables(other, seed=1)
    started = initial_weights(config_from(tmp_path / "model"), other, fresh)
    for name in ("middle", "deep"):
        trees = [tree["params"]["parsing"][name] for tree in (started, fresh)]
        jax.tree.map(np.testing.assert_array_equal, *trees)
    images = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    before, after = (
        build_model(metadata).apply(variables, images, train=False)["parsing"]
        for metadata, variables in ((METADATA, theirs), (other, started))
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())
    model.save_model(tmp_path / "back", other, **started)
    with pytest.raises(UserError, match=r"model\.multi_scale_parsing \(True there, False here\)"):
        initial_weights(config_from(tmp_path / "back"), METADATA, theirs)


def test_another_class_count_keeps_all_but_the_logits(tmp_path):
    theirs = random_variables(METADATA)
    model.save_model(tmp_path / "model", METADATA, **theirs)
    other = dataclasses.replace(METADATA, label_set=label_sets.get("celebamask_hq"))
    fresh = random_variables(other, seed=1)
    started = initial_weights(config_from(tmp_path / "model"), other, fresh)
    theirs, fresh, started = map(model.named_leaves, (theirs, fresh, started))
    resized = {name for name in fresh if fresh[name].shape != theirs[name].shape}
    assert "params/parsing/logits/kernel" in resized
    assert len(resized) < 10
    for name, leaf in started.items():
        if name.endswith(("logits/kernel", "logits/bias")) and "binary" not in name:
            continue
        np.testing.assert_array_equal(leaf, (fresh if name in resized else theirs)[name])
    assert jax.tree.structure(started) == jax.tree.structure(fresh)
