"""What the runs of all experiments share; not an experiment itself.

A run takes about five minutes of two CPU cores: 708 of the CelebAMask-HQ photographs, EfficientNet-
Lite0 with ImageNet weights, 129 x 129 pixels, 8 epochs. Runs of the same seed see the same
photographs in the same order and start from the same weights, so that their differences are paired.
"""

from collections.abc import Mapping
from typing import Any

from dmlcsr_jax.configs import celebamask_hq_small
from ml_collections import ConfigDict

from dmlcsr_jax.errors import UserError

SEEDS = (0, 1, 2)
NUM_TRAIN_EXAMPLES = 708
BATCH_SIZE = 16
STEPS_PER_EPOCH = NUM_TRAIN_EXAMPLES // BATCH_SIZE
NUM_EPOCHS = 8
# Cycles of self-regulation, where a run has them, take the last quarter, as the paper's do.
START_EPOCH = 6

# One term of the objective less.
NO_BINARY_EDGE = {"loss.weights.binary_edge": 0.0}
NO_CATEGORY_EDGE = {"loss.weights.category_edge": 0.0}
NO_ATTENTION = {"loss.weights.attention_binary": 0.0, "loss.weights.attention_category": 0.0}
CYCLES = {"csr.start_epoch": START_EPOCH}


def get_config() -> ConfigDict:
    """Returns the config of the complete method without self-regulation."""
    config = celebamask_hq_small.get_config()
    config.model.pretrained = "efficientnet_lite0"
    config.data.image_size = 129
    config.data.num_train_examples = NUM_TRAIN_EXAMPLES
    config.data.repeat_threshold = 0.0
    config.optim.ema_decay = 0.0
    config.train.batch_size = BATCH_SIZE
    config.train.num_epochs = NUM_EPOCHS
    config.csr.start_epoch = NUM_EPOCHS
    config.csr.cycle_epochs = 1
    config.eval.every_epochs = NUM_EPOCHS
    config.checkpoint.every_epochs = 2
    config.log.panels_every_epochs = NUM_EPOCHS
    return config


def lasting(num_epochs: int) -> dict[str, int]:
    """Returns the fields of a run of so many epochs, without cycles and evaluated at its end."""
    names = ("train.num_epochs", "csr.start_epoch", "eval.every_epochs")
    return dict.fromkeys(names, num_epochs)


def run_config(
    runs: Mapping[str, Mapping[str, Any]], name: str, config: ConfigDict | None = None
) -> ConfigDict:
    """Returns the config of one run.

    Args:
      runs: name of a run to the fields in which it differs from `get_config`.
      name: `RUN-SEED`.
      config: what the runs share; None: `get_config()`, the complete method.

    Raises:
      UserError: where there is no such run.
    """
    run, _, seed = name.rpartition("-")
    if run not in runs or not seed.isdecimal():
        raise UserError(f"there is no run {name!r}; give RUN-SEED, RUN one of {', '.join(runs)}.")
    config = config or get_config()
    config.seed = int(seed)
    config.update_from_flattened_dict(runs[run])
    return config
