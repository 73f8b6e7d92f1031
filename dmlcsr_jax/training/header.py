"""What a run says of itself before it begins."""

import collections
import logging

import jax
from etils import epath

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.training.timeline import Timeline

log = logging.getLogger(__name__)


def log_header(
    workdir: epath.Path, label_set: LabelSet, timeline: Timeline, num_train: int, num_eval: int
) -> None:
    """Logs devices, photographs, steps, classes, what is mirrored, and where results go.

    Args:
      workdir: the run's folder.
      label_set: the network's.
      timeline: the run's.
      num_train: examples of `data.root` to train on.
      num_eval: examples of evaluation.
    """
    kinds = collections.Counter(device.device_kind for device in jax.devices())
    devices = " and ".join(f"{count} x {kind}" for kind, count in kinds.items())
    log.info(
        "%s: %d photographs to train on and %d to evaluate, %d steps; results go to %s",
        *(devices, num_train, num_eval, timeline.num_steps, workdir),
    )
    log.info("%d classes: %s", label_set.num_classes, ", ".join(label_set.classes))
    log.info("%s", mirroring(label_set))


def mirroring(label_set: LabelSet) -> str:
    """Returns which classes mirrored views exchange, and whose left and right the names mean."""
    if not label_set.mirror_pairs:
        return "no class becomes another where a photograph is mirrored"
    names = label_set.classes
    pairs = ", ".join(f"{names[a]} with {names[b]}" for a, b in label_set.mirror_pairs)
    return f"mirrored: {pairs}; {label_set.convention.partition('; ')[2]}"
