"""Label maps that are readable but cannot be what is meant, such as masks of 0 and 255."""

import concurrent.futures

import numpy as np

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.subset import read_label
from dmlcsr_jax.data.workers import num_cores
from dmlcsr_jax.errors import UserError

_SAMPLE = 32
_MOSTLY = 0.5


def implausible(counts: np.ndarray, label_set: LabelSet) -> str | None:
    """Returns what label maps have that no set of several classes can, or None.

    That is a single class or none; or, where classes are absent, more ignored pixels than others.
    Rare classes may be absent, and scribbles leave most pixels out.

    Args:
      counts: int `[256]`, the pixels of each value.
      label_set: what the values mean.
    """
    total, ignored = counts.sum(), counts[label_set.ignore_label]
    shown = [name for label, name in enumerate(label_set.classes) if counts[label]]
    is_mostly_ignored = len(shown) < label_set.num_classes and ignored > _MOSTLY * total
    if not total or (len(shown) > 1 and not is_mostly_ignored):
        return None
    found = f"show {', '.join(shown) or 'no class'} alone of {', '.join(label_set.classes)}"
    if ignored:
        found = (
            f"{found}, and {ignored / total:.1%} of their pixels are {label_set.ignore_label}, "
            "which counts for nothing"
        )
        advice = (
            f"a label is its class's number, 0 to {label_set.num_classes - 1}: of masks of 0 and "
            "255, divide the values by 255"
        )
    else:
        advice = "write each class's number into its pixels, or choose the label set that this is"
    return f"{found}; {advice}"


def sample(length: int) -> list[int]:
    """Returns the places, spread over a set of so many examples, whose label maps are looked at."""
    return np.linspace(0, length - 1, min(_SAMPLE, length)).astype(int).tolist()


def require_plausible(counts: np.ndarray, label_set: LabelSet, what: str) -> None:
    """Refuses label maps that are `implausible`; `what` names them.

    Raises:
      UserError: saying what they show and what to do.
    """
    if problem := implausible(counts, label_set):
        raise UserError(f"{what} {problem}.")


def require_plausible_source(source, label_set: LabelSet, what: str) -> None:
    """Does so for a sample of a source, see `sources`.

    Raises:
      UserError: likewise, or where a label map cannot be read.
    """
    chosen = sample(len(source))
    with concurrent.futures.ThreadPoolExecutor(2 * num_cores()) as pool:
        counts = sum(
            pool.map(lambda i: np.bincount(read_label(source, i).ravel(), minlength=256), chosen)
        )
    require_plausible(counts, label_set, f"{len(chosen)} label maps of {what}")
