"""The one progress bar."""

import sys

import jax
from tqdm import tqdm


def progress_bar(
    total: int | None, *, unit: str, description: str, initial: int = 0, leave: bool = True
) -> tqdm:
    """Returns a bar on stderr with rate and time left; only process 0 shows it."""
    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        desc=description,
        leave=leave,
        disable=jax.process_index() != 0,
        mininterval=0.5 if sys.stderr.isatty() else 10,
        dynamic_ncols=True,
    )
