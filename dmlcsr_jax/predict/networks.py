"""Which program runs a network: JAX for a checkpoint, an ONNX runtime for an exported file."""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath

from dmlcsr_jax.distributed.accelerators import may_have_accelerator
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import onnx_runtimes
from dmlcsr_jax.predict.onnx_network import OnnxNetwork

if TYPE_CHECKING:
    from dmlcsr_jax.predict.jax_network import JaxNetwork

BACKENDS = ("jax", *onnx_runtimes.BACKENDS)
# The graph of the model in the box, exported with --shared: the kernels are in the other file.
EXPORTED_DEFAULT = pathlib.Path(__file__).parents[1] / "weights" / "celebamask_hq_small.onnx"


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

    The model in the box runs on an ONNX runtime where one is installed and JAX could find no
    accelerator, unless the options ask for what only JAX does.

    Raises:
      UserError: where it cannot be read, a value is impossible, or the backend runs no such file.
    """
    name = os.fspath(checkpoint)
    options = {"flip": flip, "scales": scales, "dtype": dtype}
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}.")
    if name == "default" and _takes_exported(backend, scales, dtype):
        return OnnxNetwork(EXPORTED_DEFAULT, backend=backend, **options)
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


def _takes_exported(backend: str | None, scales: Sequence[float], dtype: str) -> bool:
    if backend is not None:
        return backend != "jax"
    is_plain = tuple(scales) == (1.0,) and dtype == "float32"
    return is_plain and bool(onnx_runtimes.installed()) and not may_have_accelerator()
