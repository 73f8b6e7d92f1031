"""What an exported program says of itself, as texts by name; neither JAX nor Orbax is needed."""

import json
from collections.abc import Mapping
from typing import Any

from dmlcsr_jax.data.json_object import parse_object
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.metadata import Metadata

# Under which name all of the metadata is kept.
COMPLETE = "dmlcsr_jax.metadata"


def describe(metadata: Metadata, fingerprint: str) -> dict[str, Any]:
    """Returns what another program's author wants to know, and all of the metadata, for JSON.

    Args:
      metadata: of the exported network.
      fingerprint: of its tensors.
    """
    label_set = metadata.label_set
    return {
        "classes": list(label_set.classes),
        "palette": [list(colour) for colour in label_set.palette],
        "left_right_pairs": [list(pair) for pair in label_set.mirror_pairs],
        "left_is": label_set.left_is,
        "convention": label_set.convention,
        "license": metadata.license,
        "fingerprint": fingerprint,
        "image_size": metadata.image_size,
        "channel_order": metadata.channel_order,
        "mean": list(metadata.mean),
        "std": list(metadata.std),
        "label_set": label_set.to_json(),
        COMPLETE: metadata.to_json(),
    }


def to_properties(description: Mapping[str, Any]) -> dict[str, str]:
    """Returns what `describe` does as texts: sentences as they are, all else as JSON."""
    return {
        name: fact if isinstance(fact, str) else json.dumps(fact)
        for name, fact in description.items()
    }


def from_properties(properties: Mapping[str, str], name: str) -> Metadata:
    """Returns the metadata in what `to_properties` wrote.

    Args:
      properties: by name.
      name: the file that they are from, for the message.

    Raises:
      UserError: where they are those of another project, or damaged.
    """
    if COMPLETE not in properties:
        raise UserError(
            f"{name} is a model of another project; use one that "
            "`python -m dmlcsr_jax.export` wrote."
        )
    try:
        return Metadata.from_json(parse_object(properties[COMPLETE].encode(), COMPLETE))
    except UserError as error:
        reason = str(error).rstrip(".")
        raise UserError(
            f"{name} does not describe its model ({reason}); export it again."
        ) from error
