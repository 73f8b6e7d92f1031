"""What an earlier run has left in a workdir that holds no checkpoint to go on from."""

import jax
from etils import epath

from dmlcsr_jax.checkpoints.model import newest_in
from dmlcsr_jax.errors import UserError


def clear_or_refuse(workdir: epath.Path) -> None:
    """Sees to it that a run that begins anew ships and keeps no model but its own.

    A run killed as it replaced its first checkpoint leaves an unfinished one, and is made again
    from its seed: its best model and teachers are removed. Where `checkpoints` is empty somebody
    has emptied it, and what remains may be all there is of a finished run.

    Args:
      workdir: a run's folder without a complete checkpoint of the run.

    Raises:
      UserError: names what remains of an earlier run.
    """
    models = [name for name in ("best", "teachers") if newest_in(workdir / name)]
    checkpoints = workdir / "checkpoints"
    if checkpoints.is_dir() and any(checkpoints.iterdir()):
        for name in models:
            if jax.process_index() == 0:
                (workdir / name).rmtree()
        return
    if (workdir / "metrics.json").exists():
        models.append("metrics.json")
    if models:
        raise UserError(
            f"{workdir} holds no checkpoint to go on from, but {' and '.join(models)} of an "
            "earlier run; move or remove them, or use another --workdir."
        )
