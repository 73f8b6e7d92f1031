"""An exported model without JAX: ONNX Runtime gives scores and label maps."""

import os
import pathlib

import numpy as np

from dmlcsr_jax.checkpoints.properties import from_properties
from dmlcsr_jax.data.interpolation import interpolation_matrix
from dmlcsr_jax.errors import UserError


class OnnxParser:
    """Runs a file that `python -m dmlcsr_jax.export --to=model.onnx` wrote.

    Attributes:
      metadata: input size, normalisation, label set.
      label_set: meaning of the labels.
    """

    def __init__(self, path: str | os.PathLike, *, num_threads: int = 0):
        """Loads the model.

        Args:
          path: the file.
          num_threads: that compute; 0: one a core.

        Raises:
          UserError: where ONNX Runtime or the file is missing, or it is no model of this project.
        """
        onnxruntime = _import_onnxruntime()
        name = os.fspath(path)
        if not pathlib.Path(path).is_file():
            raise UserError(f"{name} is not a file; name one that `dmlcsr-export` wrote.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                name, options, providers=["CPUExecutionProvider"]
            )
        # Its errors have no base of their own.
        except Exception as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"{name} is no complete ONNX model ({reason}); export it again."
            ) from error
        properties = self._session.get_modelmeta().custom_metadata_map
        self.metadata = from_properties(properties, name)
        self.label_set = self.metadata.label_set
        if "labels" not in [output.name for output in self._session.get_outputs()]:
            raise UserError(f"{name} gives scores; export it without --scores for label maps.")

    def labels(self, image: np.ndarray) -> np.ndarray:
        """Returns uint8 `[H, W]`, the label of each pixel of one photograph.

        Args:
          image: uint8 `[H, W, 3]` RGB.

        Raises:
          UserError: where `image` is no such array, or not of the size that the file was made for.
        """
        is_photograph = isinstance(image, np.ndarray) and image.dtype == np.uint8
        if not is_photograph or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            found = f"{getattr(image, 'dtype', type(image))} {getattr(image, 'shape', '')}"
            raise UserError(f"a photograph must be a uint8 array [H, W, 3] in RGB, not {found}.")
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
        height, width = self._session.get_inputs()[0].shape[1:3]
        if isinstance(height, int) and images.shape[1:3] != (height, width):
            raise UserError(
                f"the model takes photographs of {height}x{width} pixels, not of "
                f"{images.shape[1]}x{images.shape[2]}; export it without --size."
            )
        return self._session.run([output], {"images": images})[0]


def _import_onnxruntime():
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "running an ONNX model needs ONNX Runtime: pip install 'dmlcsr_jax[onnx]'."
        ) from error
    return onnxruntime
