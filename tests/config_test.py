"""Configs: the shipped ones are valid, wrong ones end in a sentence that names the field."""

import importlib
import pathlib

import ml_collections
import pytest
from dmlcsr_jax.configs import default

from dmlcsr_jax import config as config_lib
from dmlcsr_jax.errors import UserError

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py")
    if path.stem not in ("__init__", "default")
)


def valid_config():
    config = importlib.import_module("dmlcsr_jax.configs.synthetic").get_config()
    # A schedule of this file's own, which the values below contradict.
    config.train.num_epochs, config.csr.start_epoch, config.csr.cycle_epochs = 10, 6, 2
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_are_valid(name):
    config = importlib.import_module(f"dmlcsr_jax.configs.{name}").get_config()
    config.data.root = "somewhere"
    for source in config.data.sources.values():
        source.root = "elsewhere"
    config_lib.validate(config)


@pytest.mark.parametrize("name", ["helen", "lapa", "celebamask_hq"])
def test_full_configs_hold_the_papers_settings(name):
    config = importlib.import_module(f"dmlcsr_jax.configs.{name}").get_config()
    assert config.model.encoder == "resnet101"
    assert config.data.image_size == 473
    assert config.train.num_epochs == 200
    assert (config.csr.start_epoch, config.csr.cycle_epochs) == (150, 10)
    assert (config.optim.learning_rate, config.optim.momentum) == (1e-3, 0.9)
    assert (config.optim.weight_decay, config.optim.warmup_epochs) == (5e-4, 10)
    assert config.train.batch_size == config.optim.base_batch_size == 28
    assert config.loss.edge_width == 1
    assert dict(config.loss.weights) == {
        "cross_entropy": 2.0,
        "lovasz": 2.0,
        "binary_edge": 1.0,
        "category_edge": 0.2,
        "attention_binary": 4.0,
        "attention_category": 1.0,
        "marginal": 2.0,
        "consistency": 0.0,
    }


def test_every_rule_names_an_existing_field():
    assert set(config_lib._RULES) <= set(config_lib.flatten(default.get_config()))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.encoder", "resnet34"),
        ("model.width", 0.0),
        ("model.dtype", "float16"),
        ("model.output_stride", 12),
        ("model.output_stride", 16),
        ("data.repeat_threshold", 1.5),
        ("augmentation.brightness", -0.1),
        ("augmentation.saturation", 1.5),
        ("loss.resolution", 0.0),
        ("loss.resolution", 1.5),
        ("optim.name", "adam"),
        ("optim.grad_clip_norm", -1.0),
        ("optim.encoder_lr_mult", -1.0),
        ("optim.ema_decay", 1.0),
        ("model.dtype", "float64"),
        ("data.source", "folders"),
        ("data.image_size", 16),
        ("data.channel_order", "RGB"),
        ("data.std", (0.2, 0.2, 0.0)),
        ("data.num_workers", -1),
        ("data.label_noise", 1.5),
        ("augmentation.mirror_prob", 2.0),
        ("augmentation.scale_min", 1.5),
        ("loss.weights.lovasz", -1.0),
        ("loss.edge_width", 0),
        ("optim.learning_rate", 0.0),
        ("optim.momentum", 1.0),
        ("optim.warmup_epochs", 9),
        ("train.batch_size", 0),
        ("csr.start_epoch", 13),
        ("csr.cycle_epochs", 3),
        ("csr.restart_factor", 0.0),
        ("eval.scales", ()),
        ("eval.scales", ("1.0,abc",)),
        ("data.mean", ("a", "b", "c")),
        ("data.crop_margin", -0.1),
        ("augmentation.scale_std", -0.1),
        ("augmentation.rotation_max", float("nan")),
        ("checkpoint.keep", 1),
        ("log.every_steps", 0),
    ],
)
def test_impossible_values_are_named(field, value):
    config = valid_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=field.replace(".", r"\.")):
        config_lib.validate(config)


NO_NUMBERS = (float("nan"), float("inf"), -float("inf"))


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_no_field_of_numbers_takes_what_is_no_number(value):
    numbers = [
        name
        for name, field in config_lib.flatten(valid_config()).items()
        if isinstance(field, float) and name in config_lib._RULES
    ]
    assert {"optim.learning_rate", "loss.weights.lovasz", "augmentation.scale_max"} <= set(numbers)
    for name in [*numbers, "data.crop_margin"]:
        config = valid_config()
        config.update_from_flattened_dict({name: value})
        with pytest.raises(UserError, match=name.replace(".", r"\.") + " is "):
            config_lib.validate(config)


@pytest.mark.parametrize("name", ["data.mean", "data.std", "eval.scales"])
@pytest.mark.parametrize("value", [*NO_NUMBERS, "0.5", None, (1.0,)])
def test_nor_do_the_numbers_in_a_tuple(name, value):
    config = valid_config()
    config.update_from_flattened_dict({name: (1.0, value, 1.0)})
    with pytest.raises(UserError, match=name.replace(".", r"\.") + " is "):
        config_lib.validate(config)


@pytest.mark.parametrize("text", ["0.5", "nan", ""])
def test_text_where_a_number_is_needed_is_named(text):
    """As of a config file that puts a section of its own in the place of ours."""
    config = valid_config()
    for name, section in (("weights", config.loss), ("optim", config), ("augmentation", config)):
        inner = {field for field, value in section[name].items() if hasattr(value, "items")}
        own = {field: section[name][field] if field in inner else text for field in section[name]}
        with section.ignore_type():
            section[name] = ml_collections.ConfigDict(own)
    with pytest.raises(UserError) as error:
        config_lib.validate(config)
    for name in ("loss.weights.lovasz", "optim.learning_rate", "augmentation.scale_min"):
        assert f"config.{name} is {text!r}; it must be" in str(error.value)


def test_everything_wrong_is_said_at_once():
    config = valid_config()
    config.seed = -1
    config.csr.start_epoch = 13
    config.csr.cycle_epochs = 0
    config.optim.warmup_epochs = 20
    config.augmentation.scale_min = 1.5
    with pytest.raises(UserError) as error:
        config_lib.validate(config)
    for field in (
        *("seed", "csr.start_epoch", "csr.cycle_epochs", "optim.warmup_epochs"),
        "augmentation.scale_min",
    ):
        assert f"config.{field} is" in str(error.value)


def test_a_field_that_is_missing_is_named():
    config = valid_config()
    del config.eval.scales
    with pytest.raises(UserError, match=r"config\.eval\.scales is missing"):
        config_lib.validate(config)


@pytest.mark.parametrize(("old", "new"), default.RENAMED.items())
def test_a_name_of_before_is_answered_with_that_of_today(old, new):
    config = valid_config()
    config.update_from_flattened_dict({new: 0.5})
    config_lib.validate(config)
    section, name = old.split(".")
    config[section][name] = 0.5
    with pytest.raises(UserError, match=f"config.{old} is called config.{new} now."):
        config_lib.validate(config)


def test_data_root_is_asked_for():
    config = valid_config()
    config.data.source = "folder"
    with pytest.raises(UserError, match=r"data\.root"):
        config_lib.validate(config)


def test_weights_of_another_efficientnet_than_the_encoder_are_refused():
    config = valid_config()
    config.model.encoder = config.model.pretrained = "efficientnet_lite1"
    config_lib.validate(config)
    config.model.encoder = "efficientnet_lite2"
    with pytest.raises(UserError, match=r"'efficientnet_lite1' and config\.model\.encoder is 'ef"):
        config_lib.validate(config)


def config_with_sources():
    config = importlib.import_module("dmlcsr_jax.configs.celebamask_hq_wild").get_config()
    config.data.root = "somewhere"
    for source in config.data.sources.values():
        source.root = "elsewhere"
    return config


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("kind", "video", "must be one of folder, prepared, .*, points, images, scenes"),
        ("share", 0.0, "above 0 and below 1"),
        ("share", 0.9, "sum to 1.13"),
        ("root", "", "is empty"),
        ("label_set", "", "say what its labels mean"),
        ("augmentation.scale_min", -1.0, "must be above 0"),
        ("augmentation.sharpness", 1.0, "is unknown"),
        ("weight", 1.0, "is unknown"),
    ],
)
def test_impossible_sources_are_named(field, value, words):
    config = config_with_sources()
    *sections, name = field.split(".")
    section = config.data.sources.lfw
    for inner in sections:
        section = section[inner]
    section[name] = value
    with pytest.raises(UserError, match=words) as error:
        config_lib.validate(config)
    assert "data.sources" in str(error.value)
