"""A checkpoint's network on this process's devices, for batches of one static shape."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from dmlcsr_jax.checkpoints import fingerprint, model
from dmlcsr_jax.distributed.sharding import batch_sharding, replicated
from dmlcsr_jax.evaluation.label_tiles import label_from_scores
from dmlcsr_jax.evaluation.scores import LookAhead, at_input_size, make_predict_fn
from dmlcsr_jax.models.dmlcsr import build_model


class JaxNetwork:
    """A network without its edge branch.

    Attributes:
      metadata: what the checkpoint says of itself.
      variables: the network's `{"params", "batch_stats"}`.
      runtime: what runs it, in words.
      are_logits: whether its scores are logits, or mean probabilities of several views.
      label: as of `OnnxNetwork`; None, for batches are faster.
    """

    label = None

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
        devices = jax.local_devices()[: math.gcd(batch_size, jax.local_device_count())]
        self._mesh = jax.sharding.Mesh(np.array(devices), ("data",))
        variables = jax.device_get(model.for_inference(self.metadata, variables))
        self.variables = jax.device_put(variables, replicated(self._mesh))
        self._predict_fn = make_predict_fn(
            build_model(self.metadata, dtype), self.metadata, flip=flip, scales=scales
        )
        self.runtime = f"JAX, {dtype}, on {devices[0].platform}"
        self.are_logits = not flip and len(scales) == 1

    @property
    def fingerprint(self) -> str:
        """Hexadecimal, the same for the same tensors."""
        return fingerprint.fingerprint(self.variables)

    def label_of(self, scores: jax.Array, matrix: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
        """Returns the label map, uint8 `hw`, of a view of a complete photograph.

        Args:
          scores: the view's, as the pipeline gives them.
          matrix: float64 `[2, 3]`, photograph pixel to input pixel.
          hw: the photograph's height and width.
        """
        return label_from_scores(scores, matrix, hw, self.metadata.image_size)

    def on_host(self, scores: jax.Array) -> np.ndarray:
        """Returns a view's scores as float32 `[S, S, C]`, one for each pixel of the input."""
        return np.asarray(at_input_size(scores, self.metadata.image_size))

    def pipeline(self, batch_size: int) -> "_Pipeline":
        """Returns what batches of up to `batch_size` images are given to, one after the other."""
        splits = batch_size % self._mesh.size == 0
        sharding = batch_sharding(self._mesh) if splits else replicated(self._mesh)
        return _Pipeline(LookAhead(self._predict_fn, self.variables), batch_size, sharding)


class _Pipeline:
    """The devices get a batch before the scores of the one before it are waited for."""

    def __init__(self, look_ahead: LookAhead, batch_size: int, sharding: jax.sharding.Sharding):
        self._look_ahead = look_ahead
        self._batch_size = batch_size
        self._sharding = sharding
        self.rest = look_ahead.rest

    def start(self, batch: Any, images: np.ndarray) -> list[tuple[Any, list[jax.Array]]]:
        """As `LookAhead.start`, of a batch that is filled up with black images."""
        missing = self._batch_size - len(images)
        if missing:
            images = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        return self._look_ahead.start(batch, jax.device_put(images, self._sharding))
