"""The one progress bar."""

import sys

from tqdm import tqdm


def progress_bar(
    total: int | None,
    *,
    unit: str,
    description: str,
    initial: int = 0,
    leave: bool = True,
    is_shown: bool | None = None,
) -> tqdm:
    """Returns a bar on stderr with rate and time left.

    Args:
      total: units in all; None: not known.
      unit: what is counted.
      description: before the bar.
      initial: units that are done already.
      leave: whether the bar stays when it is closed.
      is_shown: whether this process shows it; None: process 0 of JAX's does.
    """
    if is_shown is None:
        import jax  # Here: prediction by an exported network does without.

        is_shown = jax.process_index() == 0
    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        desc=description,
        leave=leave,
        disable=not is_shown,
        mininterval=0.5 if sys.stderr.isatty() else 10,
        dynamic_ncols=True,
    )
