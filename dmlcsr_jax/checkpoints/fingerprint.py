"""What tells one network's tensors from another's; neither JAX nor Orbax is needed."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def fingerprint(variables: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a network's tensors, names included, 64 hexadecimal digits.

    Args:
      variables: `{"params", "batch_stats"}` of arrays, or the arrays by name, `params/...`.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(_leaves(variables), key=lambda named: named[0]):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _leaves(tree: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, node in tree.items():
        if isinstance(node, Mapping):
            yield from _leaves(node, f"{place}{name}/")
        else:
            yield f"{place}{name}", node
