"""Checks a config before anything is built."""

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

import jax
import ml_collections

from dmlcsr_jax.configs.default import RENAMED
from dmlcsr_jax.data.sources import KINDS as SOURCE_KINDS
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models import efficientnet
from dmlcsr_jax.models.dmlcsr import DTYPES, ENCODERS
from dmlcsr_jax.models.metadata import (
    CHANNEL_ORDERS,
    IMAGE_SIZES,
    MEAN_RULE,
    STD_RULE,
    are_numbers,
    is_number,
)
from dmlcsr_jax.models.resnet import STEMS


def _number(is_valid: Callable[[Any], bool] = lambda value: True) -> Callable[[Any], bool]:
    return lambda value: is_number(value) and is_valid(value)


def _one_of(*choices) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in choices, "one of " + ", ".join(map(str, choices))


_POSITIVE = (_number(lambda value: value > 0), "above 0")
_NOT_NEGATIVE = (_number(lambda value: value >= 0), "0 or more")
_BELOW_ONE = (_number(lambda value: 0 <= value < 1), "at least 0 and below 1")
_FRACTION = (_number(lambda value: 0 <= value <= 1), "between 0 and 1")
_SIZE = (_number(lambda size: 32 <= size <= IMAGE_SIZES[-1]), f"32 to {IMAGE_SIZES[-1]}")

_RULES = {
    "seed": _NOT_NEGATIVE,
    "model.encoder": _one_of(*ENCODERS),
    "model.stem": _one_of(*STEMS),
    "model.width": _POSITIVE,
    "model.output_stride": _one_of(*efficientnet.OUTPUT_STRIDES),
    "model.dtype": _one_of(*DTYPES),
    "data.source": _one_of("synthetic", *SOURCE_KINDS),
    "data.unannotated": _one_of("background", "ignore"),
    "data.label_set": (lambda name: isinstance(name, str), "the name of a label set or a file"),
    "data.repeat_threshold": _FRACTION,
    "data.num_train_examples": _NOT_NEGATIVE,
    "data.label_noise": _FRACTION,
    "data.neighbour_prob": _FRACTION,
    "data.image_size": _SIZE,
    "data.crop_margin": (
        lambda margin: margin is None or (is_number(margin) and margin >= 0),
        "0 or more, or unset",
    ),
    "data.channel_order": _one_of(*CHANNEL_ORDERS),
    "data.mean": MEAN_RULE,
    "data.std": STD_RULE,
    "data.num_workers": _NOT_NEGATIVE,
    "data.synthetic.train_examples": _POSITIVE,
    "data.synthetic.eval_examples": _POSITIVE,
    "data.synthetic.size": _SIZE,
    "augmentation.scale_std": _NOT_NEGATIVE,
    "augmentation.scale_min": _POSITIVE,
    "augmentation.scale_max": _POSITIVE,
    "augmentation.rotation_std": _NOT_NEGATIVE,
    "augmentation.rotation_max": _NOT_NEGATIVE,
    "augmentation.rotation_prob": _FRACTION,
    "augmentation.mirror_prob": _FRACTION,
    "augmentation.shift_std": _NOT_NEGATIVE,
    "augmentation.brightness": _FRACTION,
    "augmentation.contrast": _FRACTION,
    "augmentation.saturation": _FRACTION,
    "augmentation.scene_prob": _FRACTION,
    "augmentation.occlusion_prob": _FRACTION,
    "augmentation.degradation.prob": _FRACTION,
    "augmentation.degradation.exposure": _NOT_NEGATIVE,
    "augmentation.degradation.gamma": (_number(lambda gamma: gamma >= 1), "1 or more"),
    "augmentation.degradation.cast": _FRACTION,
    "augmentation.degradation.blur": _NOT_NEGATIVE,
    "augmentation.degradation.size": _NOT_NEGATIVE,
    "augmentation.degradation.noise": _NOT_NEGATIVE,
    "augmentation.degradation.jpeg": (_number(lambda q: 0 <= q <= 85), "0 to 85"),
    "loss.weights.cross_entropy": _NOT_NEGATIVE,
    "loss.weights.lovasz": _NOT_NEGATIVE,
    "loss.weights.binary_edge": _NOT_NEGATIVE,
    "loss.weights.category_edge": _NOT_NEGATIVE,
    "loss.weights.attention_binary": _NOT_NEGATIVE,
    "loss.weights.attention_category": _NOT_NEGATIVE,
    "loss.weights.marginal": _NOT_NEGATIVE,
    "loss.weights.consistency": _NOT_NEGATIVE,
    "loss.confidence": _FRACTION,
    "loss.lovasz": _one_of("exact", "binned"),
    "loss.resolution": (_number(lambda share: 0 < share <= 1), "above 0 and at most 1"),
    "loss.edge_width": (_number(lambda width: width >= 1), "1 or more"),
    "optim.name": _one_of("sgd", "adamw"),
    "optim.learning_rate": _POSITIVE,
    "optim.base_batch_size": _POSITIVE,
    "optim.momentum": _BELOW_ONE,
    "optim.encoder_lr_mult": _NOT_NEGATIVE,
    "optim.grad_clip_norm": _NOT_NEGATIVE,
    "optim.ema_decay": _BELOW_ONE,
    "optim.weight_decay": _NOT_NEGATIVE,
    "optim.warmup_epochs": _NOT_NEGATIVE,
    "train.batch_size": _POSITIVE,
    "train.num_epochs": _POSITIVE,
    "csr.start_epoch": _POSITIVE,
    "csr.cycle_epochs": _POSITIVE,
    "csr.restart_factor": (_number(lambda factor: 0.01 <= factor <= 1), "from 0.01 to 1"),
    "eval.batch_size": _POSITIVE,
    "eval.every_epochs": _POSITIVE,
    "eval.scales": (
        lambda scales: are_numbers(scales) and len(scales) > 0 and min(scales) > 0,
        "a tuple of numbers above 0",
    ),
    "checkpoint.every_epochs": _POSITIVE,
    # While a checkpoint is replaced, the one before it is the newest.
    "checkpoint.keep": (_number(lambda keep: keep >= 2), "2 or more"),
    "log.every_steps": _POSITIVE,
    "log.panels_every_epochs": _POSITIVE,
    "log.panel_images": _POSITIVE,
}

# Of each of `data.sources`; its augmentation's fields have the rules above.
_SOURCE_RULES = {
    "kind": _one_of(*SOURCE_KINDS, "points", "images", "scenes"),
    "root": (lambda root: isinstance(root, str), "a folder"),
    "split": (bool, "the name of a split"),
    "label_set": (lambda name: isinstance(name, str), "the name of a label set or a file"),
    "share": (_number(lambda share: 0 < share < 1), "above 0 and below 1"),
}


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks every value that can be impossible, and the values that must fit together.

    Raises:
      UserError: names every field that is missing, out of range or in conflict with another, its
        value and what it must be.
    """
    flat = flatten(config)
    if old := sorted(RENAMED.keys() & flat.keys()):
        raise UserError(" ".join(f"config.{n} is called config.{RENAMED[n]} now." for n in old))
    if missing := sorted(_RULES.keys() - flat.keys()):
        raise UserError(f"config.{missing[0]} is missing; begin with configs/default.py.")
    wrong = {
        name: f"config.{name} is {flat[name]!r}; it must be {meaning}."
        for name, (is_valid, meaning) in _RULES.items()
        if not is_valid(flat[name])
    }
    for name, source in config.data.sources.items():
        wrong |= _wrong_in_source(f"data.sources.{name}", flatten(source))
    if problems := [*wrong.values(), *_conflicts(config, wrong.keys())]:
        raise UserError(" ".join(problems))


def _wrong_in_source(prefix: str, flat: Mapping[str, Any]) -> dict[str, str]:
    """Returns a sentence for each impossible value of one of `data.sources`, by its field."""
    rules = _SOURCE_RULES | {
        name: rule for name, rule in _RULES.items() if name.startswith("augmentation.")
    }
    wrong = {}
    for name in sorted(flat.keys() | _SOURCE_RULES.keys()):
        field = f"config.{prefix}.{name}"
        if name not in flat:
            wrong[field] = f"{field} is missing; begin with `source` of configs/default.py."
        elif name not in rules and name != "augmentation.degradation.grey":
            wrong[field] = f"{field} is unknown; a source has {', '.join(_SOURCE_RULES)}."
        elif name in rules and not rules[name][0](flat[name]):
            wrong[field] = f"{field} is {flat[name]!r}; it must be {rules[name][1]}."
    return wrong


def _conflicts(config: ml_collections.ConfigDict, wrong: Set[str]) -> Iterator[str]:
    """Yields a sentence for each of the values that do not fit together, but for wrong ones."""
    if config.model.dtype == "float64" and not jax.config.jax_enable_x64:
        yield "config.model.dtype is 'float64' but JAX computes in 32 bits; set JAX_ENABLE_X64=1."
    if config.data.source != "synthetic" and not config.data.root:
        yield "config.data.root is empty; give the data's folder: --config.data.root=DIR."
    if config.model.encoder not in efficientnet.SCALES and config.model.output_stride != 8:
        yield (
            f"config.model.output_stride is {config.model.output_stride}; the encoder "
            f"{config.model.encoder} has 8."
        )
    if config.model.pretrained in efficientnet.SCALES.keys() - {config.model.encoder}:
        yield (
            f"config.model.pretrained is {config.model.pretrained!r} and config.model.encoder is "
            f"{config.model.encoder!r}: give the encoder's own weights."
        )

    if config.data.neighbour_prob and config.data.crop_margin is not None:
        yield (
            f"config.data.neighbour_prob is {config.data.neighbour_prob} and data.crop_margin is "
            f"{config.data.crop_margin}: a crop shows one face; leave one of them unset."
        )
    sources = dict(config.data.sources.items())
    for name, source in sources.items():
        if source.get("kind") != "scenes" and not source.get("root"):
            yield f"config.data.sources.{name}.root is empty; give the data's folder."
        if source.get("kind") in SOURCE_KINDS and not source.get("label_set"):
            yield f"config.data.sources.{name}.label_set is empty; say what its labels mean."
        if source.get("kind") == "images" and config.loss.weights.consistency == 0:
            yield (
                f"config.data.sources.{name} has no labels and config.loss.weights.consistency is "
                "0: nothing would be learned from it; set that weight."
            )
    if config.loss.weights.consistency and not config.optim.ema_decay:
        yield (
            "config.loss.weights.consistency needs a teacher: set config.optim.ema_decay to "
            "keep an average of the weights."
        )
    shares = [source.get("share") for source in sources.values()]
    if all(map(is_number, shares)) and sum(shares) >= 1:
        yield (
            f"the shares of config.data.sources sum to {sum(shares):g}; they must be below 1, "
            "data.root's share being what they leave."
        )

    def are_right(*names) -> bool:
        return wrong.isdisjoint(names)

    scale_min, scale_max = config.augmentation.scale_min, config.augmentation.scale_max
    if are_right("augmentation.scale_min", "augmentation.scale_max") and scale_min > scale_max:
        yield (
            f"config.augmentation.scale_min is {scale_min}; it must not exceed scale_max, "
            f"{scale_max}."
        )
    epochs, start, cycle = config.train.num_epochs, config.csr.start_epoch, config.csr.cycle_epochs
    if are_right("train.num_epochs", "csr.start_epoch"):
        if start > epochs:
            yield (
                f"config.csr.start_epoch is {start}; it must not exceed train.num_epochs, {epochs}."
            )
        elif are_right("csr.cycle_epochs") and (epochs - start) % cycle:
            yield (
                f"config.csr.cycle_epochs is {cycle}; it must divide the {epochs - start} epochs "
                "from csr.start_epoch to train.num_epochs."
            )
    warmup = config.optim.warmup_epochs
    if are_right("optim.warmup_epochs", "csr.start_epoch") and warmup > start:
        yield (
            f"config.optim.warmup_epochs is {warmup}; it must not exceed csr.start_epoch, {start}."
        )


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the config as one dict from dotted name to a JSON-serialisable value."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat
