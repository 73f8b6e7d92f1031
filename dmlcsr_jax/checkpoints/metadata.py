"""What a checkpoint must say about itself so that nobody feeds it the wrong pixels."""

import dataclasses
from typing import Any

import ml_collections

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.errors import UserError


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
      license: what the weights may be used for, one sentence; empty: nothing is known.
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
    license: str = ""

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "Metadata":
        """Returns the description of the network that `config` trains."""
        return cls(
            encoder=config.model.encoder,
            stem=config.model.stem,
            width=float(config.model.width),
            image_size=config.data.image_size,
            channel_order=config.data.channel_order,
            mean=tuple(map(float, config.data.mean)),
            std=tuple(map(float, config.data.std)),
            label_set=label_sets.get(config.data.label_set),
            edge_branch=True,
            crop_margin=config.data.crop_margin,
            output_stride=config.model.output_stride,
            dilated=config.model.dilated,
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
          UserError: where a field is missing or unknown, or a value is of another type.
        """
        try:
            # Checkpoints older than a field are of networks that have its default.
            fields = dataclasses.fields(cls)
            defaults = {f.name: f.default for f in fields}
            given = {n: v for n, v in defaults.items() if v is not dataclasses.MISSING} | data
            if wrong := sorted(set(defaults) ^ set(given)):
                raise UserError(
                    f"the checkpoint's metadata lacks or does not know {', '.join(wrong)}; it was "
                    "not written by this version of dmlcsr_jax: convert or train it again."
                )
            converted = {
                "mean": tuple(data["mean"]),
                "std": tuple(data["std"]),
                "label_set": LabelSet.from_json(data["label_set"]),
            }
            return cls(**data | converted)
        except (TypeError, AttributeError) as error:
            raise UserError(f"the checkpoint's metadata is damaged ({error}).") from error
