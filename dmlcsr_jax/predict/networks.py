"""Which program runs a network: JAX for a checkpoint, an ONNX runtime for an exported file."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import onnx_runtimes
from dmlcsr_jax.predict.onnx_network import OnnxNetwork

if TYPE_CHECKING:
    from dmlcsr_jax.predict.jax_network import JaxNetwork

BACKENDS = ("jax", *onnx_runtimes.BACKENDS)


def open_network(
    checkpoint: epath.PathLike,
    *,
    backend: str | None = None,
    batch_size: int = 1,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    dtype: str = "float32",
) -> "JaxNetwork | OnnxNetwork":
    """Loads a network; the arguments are those of `FaceParser`.

    Raises:
      UserError: where it cannot be read, a value is impossible, or the backend runs no such file.
    """
    name = os.fspath(checkpoint)
    options = {"flip": flip, "scales": scales, "dtype": dtype}
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}.")
    if name.endswith(".onnx"):
        if backend == "jax":
            raise UserError(f"{name} does not run on JAX; give the checkpoint that it is from.")
        return OnnxNetwork(checkpoint, backend=backend, **options)
    if backend not in (None, "jax"):
        raise UserError(
            f"{backend} runs no checkpoint; `python -m dmlcsr_jax.export --checkpoint={name} "
            "--to=model.onnx` makes a file that it runs."
        )
    # Imported here: an exported network is run without JAX.
    from dmlcsr_jax.predict.jax_network import JaxNetwork

    return JaxNetwork(checkpoint, batch_size=batch_size, **options)
