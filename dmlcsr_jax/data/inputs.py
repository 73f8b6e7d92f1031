"""From a config to sources and batches, each process its share."""

import jax
import ml_collections
from etils import epath

from dmlcsr_jax import config as config_lib
from dmlcsr_jax.check_data import findings
from dmlcsr_jax.data import batches, builders, crops, label_sets, sources, warp, workers
from dmlcsr_jax.data.label_sets import LabelSet


def open_source(
    config: ml_collections.ConfigDict,
    split: str,
    label_set: LabelSet,
    *,
    check_files: bool = True,
):
    """Opens the data of `config`.

    Args:
      config: its `data` and `seed`.
      split: "train" or "eval"; the config says which split of the set that is.
      label_set: meaning of the labels.
      check_files: whether a folder's absent files end the opening rather than the reading.

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
        check_files=check_files,
    )


def check_data(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> None:
    """Reads both splits of `config` once and reports what is wrong: see `data.check.check_data`.

    Args:
      config: its `data`.
      workdir: the report goes into its `check_data`.

    Raises:
      UserError: where there are bad examples, or the data cannot be opened.
    """
    config_lib.validate(config)
    label_set = label_sets.get(config.data.label_set)
    opened = {
        config.data[f"{split}_split"]: open_source(config, split, label_set, check_files=False)
        for split in ("train", "eval")
    }
    official_counts = None
    if config.data.source == "prepared":
        dataset = next(iter(opened.values())).summary["dataset"]
        official_counts = builders.BUILDERS[dataset].official_counts
    findings.check_data(
        opened,
        label_set,
        epath.Path(workdir) / "check_data",
        official_counts=official_counts,
        num_workers=config.data.num_workers,
    )


def train_batches(
    config: ml_collections.ConfigDict, source, label_set: LabelSet, *, seed: int, start_step: int
) -> workers.Batches:
    """Returns this process's part of the augmented batches from `start_step` on, endlessly.

    A pure function of its arguments: see `batches.train_batches`.
    """
    return batches.train_batches(
        _view(config, source),
        label_set=label_set,
        image_size=config.data.image_size,
        augmentation=warp.Augmentation(**config.augmentation.to_dict()),
        batch_size=config.train.batch_size,
        seed=seed,
        start_step=start_step,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def eval_batches(
    config: ml_collections.ConfigDict, source, label_set: LabelSet, *, image_size: int
) -> workers.Batches:
    """Returns this process's part of the evaluation batches: see `batches.eval_batches`.

    Args:
      config: its `eval.batch_size` and `data.num_workers`.
      source: the examples.
      label_set: the source's.
      image_size: side of the network's input, pixels, which a checkpoint decides.
    """
    return batches.eval_batches(
        _view(config, source),
        label_set=label_set,
        image_size=image_size,
        batch_size=config.eval.batch_size,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _view(config: ml_collections.ConfigDict, source):
    """Returns the source to be shown as the config says: whole images, or crops of faces."""
    if config.data.crop_margin is None:
        return source
    return crops.CroppedSource(source, config.data.crop_margin)
