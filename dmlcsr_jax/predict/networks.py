"""Which program runs a network: JAX for a checkpoint, an ONNX runtime for an exported file."""

import contextlib
import logging
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from etils import epath

from dmlcsr_jax.distributed.accelerators import may_have_accelerator
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.predict import onnx_runtimes
from dmlcsr_jax.predict.onnx_network import OnnxNetwork

BACKENDS = ("jax", *onnx_runtimes.BACKENDS)
# The graph of the package's model, exported with --shared: the kernels are in the other file.
EXPORTED_DEFAULT = pathlib.Path(__file__).parents[1] / "weights" / "celebamask_hq_small.onnx"


class Network(Protocol):
    """What `FaceParser` runs.

    Attributes:
      metadata: what the network says of itself: input size, normalisation, label set.
      runtime: what runs it, in words.
      fingerprint: hexadecimal, the same for the same network.
    """

    metadata: Metadata
    runtime: str
    fingerprint: str

    def scores(self, images: np.ndarray) -> Any:
        """Starts views on their way through the network.

        Args:
          images: uint8 `[B, S, S, 3]` RGB.

        Returns:
          What `np.asarray` waits for and makes float32 `[>=B, h, h, C]` of: log-probabilities on a
          grid whose corners lie on the input's and whose linear interpolation has the highest value
          at the label; rows beyond B mean nothing.
        """


def open_network(
    checkpoint: epath.PathLike,
    *,
    backend: str | None = None,
    batch_size: int = 1,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    dtype: str = "float32",
    num_threads: int = 0,
) -> Network:
    """Loads a network; the arguments are those of `FaceParser`.

    `num_threads` compute on an ONNX runtime; 0: one a core.

    The package's model runs on an ONNX runtime where one is installed and JAX could find no
    accelerator, unless the options ask for what only JAX does.

    Raises:
      UserError: where it cannot be read, a value is impossible, or the backend runs no such file.
    """
    name = os.fspath(checkpoint)
    options = {"flip": flip, "scales": scales, "dtype": dtype}
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}.")
    if name == "default" and _takes_exported(backend, scales, dtype):
        return OnnxNetwork(EXPORTED_DEFAULT, backend=backend, num_threads=num_threads, **options)
    if name.endswith(".onnx"):
        if backend == "jax":
            raise UserError(f"{name} does not run on JAX; give the checkpoint that it is from.")
        return OnnxNetwork(checkpoint, backend=backend, num_threads=num_threads, **options)
    if backend not in (None, "jax"):
        raise UserError(
            f"{backend} runs no checkpoint; `python -m dmlcsr_jax.export --checkpoint={name} "
            "--out=model.onnx` makes a file that it runs."
        )
    with _process_as_it_was():
        # Imported here: an exported network is run without JAX.
        from dmlcsr_jax.predict.jax_network import JaxNetwork

        return JaxNetwork(checkpoint, batch_size=batch_size, **options)


@contextlib.contextmanager
def _process_as_it_was() -> Iterator[None]:
    """Takes back what reading a checkpoint does to the program around: hook and handlers of logs.

    Of one that fails, threads may still have something to say: it stays.
    """
    hook, root = sys.unraisablehook, logging.getLogger()
    handlers = list(root.handlers)
    yield
    sys.unraisablehook = hook
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)


def _takes_exported(backend: str | None, scales: Sequence[float], dtype: str) -> bool:
    if backend is not None:
        return backend != "jax"
    is_plain = tuple(scales) == (1.0,) and dtype == "float32"
    return is_plain and bool(onnx_runtimes.installed()) and not may_have_accelerator()
