"""What tells one network's tensors from another's."""

import hashlib

import jax
import numpy as np

from dmlcsr_jax.checkpoints import model


def fingerprint(variables) -> str:
    """Returns the SHA-256 of a network's tensors, names included, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, leaf in sorted(model.named_leaves(jax.device_get(variables)).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
