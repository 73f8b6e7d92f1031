"""An exported network as `FaceParser` runs it, without JAX."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.onnx_parser import OnnxParser


class OnnxNetwork:
    """A network in a file that `python -m dmlcsr_jax.export --to=model.onnx` wrote.

    Attributes:
      metadata: what the file says of its network.
      runtime: what runs it, in words.
      are_logits: whether its scores are logits, or mean probabilities of two views.
      label: from uint8 `[H, W, 3]` RGB to the label map uint8 `[H, W]` of a complete photograph,
        without scores in between; None where two views are averaged.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        backend: str | None,
        flip: bool,
        scales: Sequence[float],
        dtype: str,
    ):
        """Loads the model; the arguments are those of `FaceParser`.

        Raises:
          UserError: where the runtime or the file is missing, it is no such file, or an option asks
            for another program than the one that is in the file.
        """
        if tuple(scales) != (1.0,):
            raise UserError(
                f"{os.fspath(path)} runs at the size that it was exported with; leave scales, or "
                "give the checkpoint."
            )
        if dtype not in ("float32", "bfloat16"):
            raise UserError(f"the dtype is {dtype!r}; it must be float32 or bfloat16.")
        self._path = path
        self._flip = flip
        self._parser = OnnxParser(path, backend=backend, dtype=dtype)
        self.metadata = self._parser.metadata
        self.runtime = self._parser.runtime
        self.are_logits = not flip
        self.label = None if flip else self._parser.labels

    @property
    def fingerprint(self) -> str:
        """Hexadecimal, the same for the same file."""
        with open(self._path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def label_of(self, scores: np.ndarray, matrix: np.ndarray, hw: tuple[int, int]) -> None:
        """Returns None: the scores are on the host, where `Composite` makes label maps of them."""

    def on_host(self, scores: np.ndarray) -> np.ndarray:
        """Returns them: they are there."""
        return scores

    def pipeline(self, batch_size: int) -> "OnnxNetwork":
        """Returns what batches of up to `batch_size` images are given to: this."""
        return self

    def start(self, batch: Any, images: np.ndarray) -> list[tuple[Any, np.ndarray]]:
        """Returns `batch` with the scores, float32 `[B, S, S, C]`, of uint8 `[B, S, S, 3]`."""
        scores = self._parser.scores(images)
        if self._flip:
            mirrored = self._parser.scores(np.ascontiguousarray(images[:, :, ::-1]))
            label_set = self.metadata.label_set
            channels = label_set.mirror_table()[: label_set.num_classes]
            scores = (_softmax(scores) + _softmax(mirrored[:, :, ::-1, channels])) / 2
        return [(batch, scores)]

    def rest(self) -> Sequence[Any]:
        """Returns the batches whose scores are still to come: none."""
        return ()


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
