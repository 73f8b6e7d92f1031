"""An exported network without JAX: ONNX Runtime or OpenVINO gives scores and label maps."""

import os
import threading
from collections.abc import Sequence

import numpy as np

from dmlcsr_jax.data.unwarp import interpolation_matrix
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import onnx_runtimes
from dmlcsr_jax.predict.as_image import check_image


class OnnxNetwork:
    """A file that `python -m dmlcsr_jax.export --out=model.onnx` wrote; see `networks.Network`.

    Attributes:
      metadata: what the file says of its network.
      runtime: what runs it, in words.
      fingerprint: hexadecimal, the same for the same file and weights.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        backend: str | None = None,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        dtype: str = "float32",
        num_threads: int = 0,
    ):
        """Loads the model; the arguments are those of `FaceParser`.

        `num_threads` compute; 0: one a core.

        Raises:
          UserError: where the runtime or the file is missing, it is no such file or damaged, or an
            option asks for another program than the one that is in the file.
        """
        if tuple(scales) != (1.0,):
            raise UserError(
                f"{os.fspath(path)} runs at the size that it was exported with; leave scales, or "
                "give the checkpoint."
            )
        if dtype not in ("float32", "bfloat16"):
            raise UserError(f"the dtype is {dtype!r}; it must be float32 or bfloat16.")
        name = os.fspath(path)
        if not os.path.isfile(name):
            raise UserError(f"{name} is not a file; name one that `dmlcsr-export` wrote.")
        backend = onnx_runtimes.choose(name, backend, dtype)
        # Imported here: what reads the file comes with the runtimes' extras.
        from dmlcsr_jax.predict import onnx_file

        self._file = onnx_file.read(name)
        self._flip = flip
        self._model = onnx_runtimes.open_model(self._file, backend, num_threads, dtype)
        self._lock = threading.Lock()
        self.metadata = self._file.metadata
        self.fingerprint = self._file.fingerprint
        numbers = "8 bits" if self._file.is_quantized else dtype
        self.runtime = f"{self._model.name}, {numbers}"

    def scores(self, images: np.ndarray) -> np.ndarray:
        """As `networks.Network.scores`."""
        scores = log_softmax(self.logits(images))
        if self._flip:
            mirrored = log_softmax(self.logits(np.ascontiguousarray(images[:, :, ::-1])))
            label_set = self.metadata.label_set
            channels = label_set.mirror_table()[: label_set.num_classes]
            scores = np.logaddexp(scores, mirrored[:, :, ::-1, channels]) - np.float32(np.log(2))
        return scores

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns float32 `[B, h, h, C]` of views, uint8 `[B, S, S, 3]` RGB, on the grid of scores.

        Raises:
          UserError: where the file was made for photographs of another size.
        """
        size = self.metadata.image_size
        logits = self._run("logits", images)
        if (size - 1) % max(logits.shape[1] - 1, 1):
            # What is linear between the network's points is not between those of the grid.
            matrix = interpolation_matrix(size, logits.shape[1]).astype(np.float32)
            columns = np.einsum("pj,bijc->bipc", matrix, logits, optimize=True)
            logits = np.einsum("oi,bipc->bopc", matrix, columns, optimize=True)
        return logits

    def labels(self, image: np.ndarray) -> np.ndarray:
        """Returns uint8 `[H, W]`: what the file itself says of a complete photograph.

        Args:
          image: uint8 `[H, W, 3]` RGB.

        Raises:
          UserError: where `image` is no such array, or not of the size that the file was made for.
        """
        check_image(image)
        return self._run("labels", image[None])[0]

    def _run(self, output: str, images: np.ndarray) -> np.ndarray:
        batch, *found = images.shape[:3]
        if self._file.hw not in (None, tuple(found)):
            expected, given = (f"{hw[0]}x{hw[1]}" for hw in (self._file.hw, found))
            raise UserError(
                f"the model takes photographs of {expected} pixels, not of {given}; export it "
                "without --size."
            )
        # One at a time: OpenVINO's request, which holds the memory, is no more than one.
        with self._lock:
            result = self._model.run(output, images)
        num_classes, side = self.metadata.label_set.num_classes, self._file.side
        shapes = {"labels": (batch, *found), "logits": (batch, side, side, num_classes)}
        if result.shape != shapes[output]:
            raise UserError(
                f"{self._file.name} gives {output} of shape {result.shape} where {shapes[output]} "
                "is needed; export it again."
            )
        if output == "labels" and (most := result.max()) >= num_classes:
            raise UserError(
                f"{self._file.name} gives the label {most} but has {num_classes} classes; export "
                "it again."
            )
        return result


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns float32 `[..., C]`, the logarithms of the classes' probabilities."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
