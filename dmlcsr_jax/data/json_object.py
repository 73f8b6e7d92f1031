"""JSON objects from files that anybody may have written."""

import json
from typing import Any

from dmlcsr_jax.errors import UserError


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """Returns the one object that a JSON file holds.

    Args:
      data: the file's bytes, UTF-8.
      name: the file's name, for errors.

    Raises:
      UserError: where it is not JSON, or of another kind.
    """
    try:
        value = json.loads(data.decode("utf-8-sig"))
    # Python's parser gives up at some depth of brackets.
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not readable JSON ({error}); write it again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{name} must hold one JSON object, not a {type(value).__name__}.")
    return value
