"""An exported model without JAX: ONNX Runtime or OpenVINO gives scores and label maps."""

import os
import threading

import numpy as np

from dmlcsr_jax.checkpoints.properties import from_properties
from dmlcsr_jax.data.interpolation import interpolation_matrix
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.check_image import check_image
from dmlcsr_jax.predict.onnx_runtimes import open_model


class OnnxParser:
    """Runs a file that `python -m dmlcsr_jax.export --to=model.onnx` wrote.

    Attributes:
      metadata: input size, normalisation, label set.
      label_set: meaning of the labels.
      runtime: what runs the model, in words.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        backend: str | None = None,
        num_threads: int = 0,
        dtype: str = "float32",
    ):
        """Loads the model.

        Args:
          path: the file.
          backend: as `open_model` takes it.
          num_threads: that compute; 0: one a core.
          dtype: as `open_model` takes it.

        Raises:
          UserError: as `open_model`, or where it is no model of this project.
        """
        self._model = open_model(path, backend, num_threads, dtype)
        self._lock = threading.Lock()
        self.metadata = from_properties(self._model.properties, os.fspath(path))
        self.label_set = self.metadata.label_set
        numbers = "8 bits" if self._model.properties.get("quantized") else dtype
        self.runtime = f"{self._model.name}, {numbers}"
        if "labels" not in self._model.outputs:
            raise UserError(
                f"{os.fspath(path)} gives scores; export it without --scores for label maps."
            )

    def labels(self, image: np.ndarray) -> np.ndarray:
        """Returns uint8 `[H, W]`, the label of each pixel of one photograph.

        Args:
          image: uint8 `[H, W, 3]` RGB.

        Raises:
          UserError: where `image` is no such array, or not of the size that the file was made for.
        """
        check_image(image)
        return self._run("labels", image[None])[0]

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 `[B, S, S, C]`, the logits of every pixel of the network's input.

        Args:
          images: uint8 `[B, S, S, 3]` RGB, already of the input's size.

        Raises:
          UserError: where the file was made for photographs of another size.
        """
        size = self.metadata.image_size
        logits = self._run("logits", images)
        matrix = interpolation_matrix(size, logits.shape[1]).astype(np.float32)
        columns = np.einsum("pj,bijc->bipc", matrix, logits, optimize=True)
        return np.einsum("oi,bipc->bopc", matrix, columns, optimize=True)

    def _run(self, output: str, images: np.ndarray) -> np.ndarray:
        if self._model.hw not in (None, images.shape[1:3]):
            expected, found = (f"{hw[0]}x{hw[1]}" for hw in (self._model.hw, images.shape[1:3]))
            raise UserError(
                f"the model takes photographs of {expected} pixels, not of {found}; export it "
                "without --size."
            )
        # One at a time: OpenVINO's request, which holds the memory, is no more than one.
        with self._lock:
            return self._model.run(output, images)
