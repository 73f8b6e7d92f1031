"""From a config to sources and batches, each process its share."""

from collections.abc import Iterator
from typing import Any

import jax
import ml_collections

from dmlcsr_jax.data import pipeline, sources, transforms
from dmlcsr_jax.data.label_sets import LabelSet


def open_source(config: ml_collections.ConfigDict, split: str, label_set: LabelSet):
    """Opens the data of `config`.

    Args:
      config: its `data` and `seed`.
      split: "train" or "eval"; the config says which split of the set that is.
      label_set: meaning of the labels.

    Raises:
      UserError: where the data is missing or not as it should be.
    """
    data = config.data
    return sources.open_source(
        data.source,
        root=data.root,
        split=data[f"{split}_split"],
        label_set=label_set,
        num_examples=data.synthetic[f"{split}_examples"],
        size=data.synthetic.size,
        seed=config.seed,
        label_noise=data.synthetic.label_noise,
    )


def train_batches(
    config: ml_collections.ConfigDict, source, label_set: LabelSet, *, seed: int, start_step: int
) -> Iterator[dict[str, Any]]:
    """Returns this process's part of the augmented batches from `start_step` on, endlessly.

    A pure function of its arguments: see `pipeline.train_batches`.
    """
    return pipeline.train_batches(
        source,
        label_set=label_set,
        image_size=config.data.image_size,
        augmentation=transforms.Augmentation(**config.augmentation.to_dict()),
        batch_size=config.train.batch_size,
        seed=seed,
        start_step=start_step,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def eval_batches(
    config: ml_collections.ConfigDict, source, label_set: LabelSet, *, image_size: int
) -> Iterator[dict[str, Any]]:
    """Returns this process's part of the evaluation batches: see `pipeline.eval_batches`.

    Args:
      config: its `eval.batch_size` and `data.num_workers`.
      source: the examples.
      label_set: the source's.
      image_size: side of the network's input, pixels, which a checkpoint decides.
    """
    return pipeline.eval_batches(
        source,
        label_set=label_set,
        image_size=image_size,
        batch_size=config.eval.batch_size,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
