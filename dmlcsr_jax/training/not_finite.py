"""The end of a run whose loss or gradient is not finite."""

import io
from collections.abc import Callable, Mapping

import jax
import numpy as np
from etils import epath

from dmlcsr_jax import atomic_file
from dmlcsr_jax.data.batches import Batches
from dmlcsr_jax.distributed import watchdog
from dmlcsr_jax.errors import UserError


def stop_not_finite(
    workdir: epath.Path,
    read_from: Callable[[int], Batches],
    step: int,
    scalars: Mapping[str, float],
) -> None:
    """Leaves the batch of the step in `workdir`, each process its part, and ends the run.

    Args:
      workdir: the run's folder.
      read_from: of a step, the batches of training from there, this process's part of each: the
        data is a function of the step, so that no batch need be kept.
      step: the step, from 1, whose loss or gradient is not finite.
      scalars: the loss and its terms.

    Raises:
      UserError: always; it names the step, the terms and the file.
    """
    path = workdir / f"not_finite_step_{step}_process_{jax.process_index()}.npz"
    with read_from(step - 1) as batches:
        batch = next(batches)
    data = io.BytesIO()
    np.savez_compressed(data, **batch)
    try:
        atomic_file.write_bytes(path, data.getvalue())
        where = f"its batch is in {path}"
    except OSError as error:
        where = f"its batch could not be written to {path} ({error.strerror or error})"
    # The first to leave ends the others.
    watchdog.barrier("a batch of a loss that is not finite is written")
    terms = ", ".join(f"{name} {value:g}" for name, value in scalars.items())
    raise UserError(
        f"the loss or its gradient is not finite at step {step} ({terms}); {where}: look at "
        "it, or lower config.optim.learning_rate and start with another --workdir."
    )
