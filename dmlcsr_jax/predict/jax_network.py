"""A checkpoint's network on this process's devices, for batches of few static shapes."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from dmlcsr_jax.checkpoints import fingerprint, model
from dmlcsr_jax.distributed.sharding import batch_sharding, replicated
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.models.scores import at_input_size, make_predict_fn

# Views of a photograph alone: of it as a whole, or of a face from close by and one or two around.
_FEW = (1, 2, 4)


class JaxNetwork:
    """A network without its edge branch; see `networks.Network`.

    Attributes:
      metadata: what the checkpoint says of itself.
      variables: the network's `{"params", "batch_stats"}`.
      runtime: what runs it, in words.
    """

    def __init__(
        self,
        checkpoint: epath.PathLike,
        *,
        batch_size: int,
        flip: bool,
        scales: Sequence[float],
        dtype: str,
    ):
        """Restores the network; the arguments are those of `FaceParser`.

        Raises:
          UserError: where the checkpoint cannot be read or a value is impossible.
        """
        self.metadata, variables = model.load_model(checkpoint)
        self._batch_size = batch_size
        devices = jax.local_devices()[: math.gcd(batch_size, jax.local_device_count())]
        self._mesh = jax.sharding.Mesh(np.array(devices), ("data",))
        variables = jax.device_get(model.for_inference(self.metadata, variables))
        self.variables = jax.device_put(variables, replicated(self._mesh))
        predict_fn = make_predict_fn(
            build_model(self.metadata, dtype), self.metadata, flip=flip, scales=scales
        )
        size = self.metadata.image_size
        self._scores_fn = jax.jit(functools.partial(_scores, predict_fn, size))
        self.runtime = f"JAX, {dtype}, on {devices[0].platform}"

    @property
    def fingerprint(self) -> str:
        """Hexadecimal, the same for the same tensors."""
        return fingerprint.fingerprint(self.variables)

    def scores(self, images: np.ndarray) -> jax.Array:
        """As `networks.Network.scores`; the devices compute while the caller goes on."""
        shapes = [n for n in _FEW if n < self._batch_size] + [self._batch_size]
        count = next(n for n in shapes if n >= len(images))
        images = np.pad(images, [(0, count - len(images)), (0, 0), (0, 0), (0, 0)])
        is_split = count % self._mesh.size == 0
        sharding = batch_sharding(self._mesh) if is_split else replicated(self._mesh)
        return self._scores_fn(self.variables, jax.device_put(images, sharding))


def _scores(predict_fn, size: int, variables, images):
    """Returns float32 `[B, h, h, C]`, log-probabilities."""
    scores = predict_fn(variables, images).astype(jnp.float32)
    if (size - 1) % max(scores.shape[1] - 1, 1):
        # What is linear between the network's points is not between those of the grid.
        scores = at_input_size(scores, size)
    return jax.nn.log_softmax(scores)
