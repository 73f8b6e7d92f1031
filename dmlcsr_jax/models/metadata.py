"""What a checkpoint must say about itself so that nobody feeds it the wrong pixels."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import ml_collections

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError

# Sides of the square input, pixels: what the deepest features need, and what memory has.
IMAGE_SIZES = range(16, 4097)
CHANNEL_ORDERS = ("rgb", "bgr")
_MAX_WIDTH = 16


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    # Python's whole numbers have no end, and those that no float holds cannot be asked.
    return is_real and abs(value) <= sys.float_info.max


def are_numbers(values: Any, length: int | None = None) -> bool:
    """Returns whether a value is a tuple or list of finite numbers, of a length where given."""
    is_sequence = isinstance(values, tuple | list)
    return is_sequence and all(map(is_number, values)) and length in (None, len(values))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


# On the scale of 0 to 1; wide enough for networks fed 0 to 255, and float32 holds what comes of it.
MEAN_RULE = (
    lambda value: are_numbers(value, 3) and max(map(abs, value)) <= 1000,
    "three numbers from -1000 to 1000",
)
STD_RULE = (
    lambda value: are_numbers(value, 3) and 0.001 <= min(value) <= max(value) <= 1000,
    "three numbers from 0.001 to 1000",
)


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Description of a trained network; saved beside its parameters in every checkpoint.

    Attributes:
      encoder: name of the encoder, as in `models.resnet`.
      stem: the encoder's stem, "deep" (three 3x3 convolutions) or "conv7" (torchvision's 7x7).
      width: factor on the widths of encoder and heads, 1.0 for the paper's network.
      image_size: side of the square input, pixels.
      channel_order: "rgb" or "bgr", the order in which the network is fed.
      mean: subtracted from the channels in that order, on the scale of 0 to 1.
      std: divides the channels in that order, on the scale of 0 to 1.
      label_set: class names, left/right pairs and convention, palette, merged groups.
      edge_branch: whether the edge branch's parameters are part of the tree.
      crop_margin: what the crops of faces that the network was trained on showed beyond the face's
        box, as a share of its longer side; None: on images as they are.
      output_stride: of EfficientNet's deepest features, pixels; residual networks have 8.
      dilated: whether EfficientNet's convolutions are dilated where a stride is left out.
      dual_graph: whether the context head has the dual graph.
      edge_feedback: whether the parsing head reads the edge branch's logits.
      multi_scale_parsing: whether the parsing head reads the encoder's x3 and x4 too.
      license: what the weights may be used for, one sentence; empty: nothing is known.

    Raises:
      UserError: on creation, where a value is impossible.
    """

    encoder: str
    stem: str
    width: float
    image_size: int
    channel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    label_set: LabelSet
    edge_branch: bool
    crop_margin: float | None = None
    output_stride: int = 8
    dilated: bool = True
    dual_graph: bool = True
    edge_feedback: bool = False
    multi_scale_parsing: bool = False
    license: str = ""

    def __post_init__(self):
        """Checks each value by itself; `models.dmlcsr.build_model` knows the names."""
        for name, (is_valid, meaning) in _RULES.items():
            if not is_valid(value := getattr(self, name)):
                raise UserError(f"the network's {name} is {value!r}; it must be {meaning}.")

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "Metadata":
        """Returns the description of the network that `config` trains."""
        # Imported here: prediction reads this file and opens no source of training.
        from dmlcsr_jax.data.sources import label_set_of

        return cls(
            encoder=config.model.encoder,
            stem=config.model.stem,
            width=float(config.model.width),
            image_size=config.data.image_size,
            channel_order=config.data.channel_order,
            mean=tuple(map(float, config.data.mean)),
            std=tuple(map(float, config.data.std)),
            label_set=label_set_of(config.data),
            edge_branch=True,
            crop_margin=config.data.crop_margin,
            output_stride=config.model.output_stride,
            dilated=config.model.dilated,
            dual_graph=config.model.dual_graph,
            edge_feedback=config.model.edge_feedback,
            multi_scale_parsing=config.model.multi_scale_parsing,
            license=config.model.license,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the metadata as a JSON-serialisable dict."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return fields | {
            "mean": list(self.mean),
            "std": list(self.std),
            "label_set": self.label_set.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Metadata":
        """Returns the metadata that `to_json` wrote.

        Raises:
          UserError: where a field is missing or unknown, or a value is impossible.
        """
        if not isinstance(data, dict):
            raise UserError("the checkpoint's metadata is damaged (it is no object).")
        # Checkpoints older than a field are of networks that have its default.
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        given = {n: v for n, v in defaults.items() if v is not dataclasses.MISSING} | data
        if wrong := sorted(set(defaults) ^ set(given)):
            raise UserError(
                f"the checkpoint's metadata lacks or does not know {', '.join(wrong)}; it was "
                "not written by this version of dmlcsr_jax: convert or train it again."
            )
        try:
            converted = {
                "mean": tuple(data["mean"]),
                "std": tuple(data["std"]),
                "label_set": label_sets.in_declared_colours(LabelSet.from_json(data["label_set"])),
            }
            return cls(**data | converted)
        except (TypeError, UserError) as error:
            reason = str(error).rstrip(".")
            raise UserError(f"the checkpoint's metadata is damaged ({reason}).") from error


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "encoder": (lambda value: isinstance(value, str), "text"),
    "stem": (lambda value: isinstance(value, str), "text"),
    "width": (
        lambda value: is_number(value) and 0 < value <= _MAX_WIDTH,
        f"positive and at most {_MAX_WIDTH}",
    ),
    "image_size": (
        lambda value: _is_count(value) and value in IMAGE_SIZES,
        f"a whole number from {IMAGE_SIZES[0]} to {IMAGE_SIZES[-1]}",
    ),
    "channel_order": (
        lambda value: isinstance(value, str) and value in CHANNEL_ORDERS,
        "one of " + ", ".join(CHANNEL_ORDERS),
    ),
    "mean": MEAN_RULE,
    "std": STD_RULE,
    "label_set": (lambda value: isinstance(value, LabelSet), "a label set"),
    "edge_branch": (lambda value: isinstance(value, bool), "true or false"),
    "license": (lambda value: isinstance(value, str), "text"),
    "crop_margin": (
        lambda value: value is None or (is_number(value) and value >= 0),
        "0 or more, or unset",
    ),
    "output_stride": (_is_count, "a whole number above 0"),
    "dilated": (lambda value: isinstance(value, bool), "true or false"),
    "dual_graph": (lambda value: isinstance(value, bool), "true or false"),
    "edge_feedback": (lambda value: isinstance(value, bool), "true or false"),
    "multi_scale_parsing": (lambda value: isinstance(value, bool), "true or false"),
}
