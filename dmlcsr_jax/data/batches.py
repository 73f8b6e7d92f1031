"""Batches for training and evaluation, read by Grain with worker processes.

Nothing here, nor what it imports of this project, needs JAX: workers are new processes that read
photographs and must not start an accelerator.
"""

from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from dmlcsr_jax.data.augmentation import Augmentation, augment
from dmlcsr_jax.data.geometry import box_matrix, change_source, photograph_box, shown_box
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.mixture import Part
from dmlcsr_jax.data.partial_labels import PartialLabels
from dmlcsr_jax.data.read_ahead import Batches, read_ahead
from dmlcsr_jax.data.warp import warp_image
from dmlcsr_jax.errors import UserError

# Rows of a training set that is repeated for ever: Grain rounds numbers of batches upwards, beyond
# what a length may be.
_ENDLESS = 2**62


def num_train_steps_per_epoch(num_examples: int, batch_size: int, share: float = 1.0) -> int:
    """Returns how many full batches an epoch has; the remainder is dropped.

    Args:
      num_examples: length of the training source.
      batch_size: the global batch size.
      share: of the batch that is of this source.

    Raises:
      UserError: where there is not one full batch.
    """
    if num_examples < batch_size * share:
        raise UserError(
            f"the training set has {num_examples} examples, fewer than one batch of {batch_size}; "
            "choose a smaller config.train.batch_size or a larger set."
        )
    return int(num_examples // (batch_size * share))


def train_batches(
    source,
    *,
    label_set: LabelSet | PartialLabels,
    image_size: int,
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    crop_margin: float | None = None,
    further: Sequence[Part] = (),
    with_weak_views: bool = False,
) -> Batches:
    """Returns an endless iterator of shuffled, augmented training batches.

    Global batch k is a pure function of `seed` and k: it holds the same examples in the same order
    with the same augmentation whatever the process count, the worker count and the step at which
    iteration starts. Each epoch is shuffled and augmented anew and drops its remainder.

    Args:
      source: random-access source, see `sources`; must be picklable where there are workers.
      label_set: names the pairs that mirroring exchanges and the ignore label; with groups where
        `further` sources need them.
      image_size: side S of the square input, pixels.
      augmentation: ranges of the random views.
      batch_size: global batch size, a multiple of `process_count`.
      seed: 0 or more; decides order and augmentation.
      start_step: the global batch with which to begin.
      num_workers: worker processes; with 0, two threads of this process work ahead.
      process_index: which of the processes that train together this is.
      process_count: how many there are.
      crop_margin: None for photographs; else what is shown of each is its face's box with this
        margin, see `geometry.box_matrix`.
      further: sources that take their shares of the rows, evenly spread, and leave the rest to
        `source`; each is shuffled anew when it is through.
      with_weak_views: whether every view is given undegraded too, see `augmentation.augment`.

    Returns:
      Endless iterator of "image" uint8 `[b, S, S, 3]` RGB and "label" uint8 `[b, S, S]`: rows
      `process_index * b` to `(process_index + 1) * b` of the global batch,
      `b = batch_size // process_count`; with weak views "weak_image", as "image".

    Raises:
      UserError: where the source has not one batch, or on iteration where an example is broken.
    """
    num_rows = _rows_per_process(batch_size, process_count)
    first = Part(source, 1 - sum(part.share for part in further), augmentation)
    num_steps = num_train_steps_per_epoch(len(source), batch_size, first.share)
    seeds = np.random.SeedSequence(seed).generate_state(2 + 2 * len(further)).tolist()

    def views(source, augmentation: Augmentation, length: int) -> grain.MapDataset:
        shuffle_seed, augmentation_seed = seeds.pop(0), seeds.pop(0)
        view = _RandomView(image_size, augmentation, label_set, crop_margin, with_weak_views)
        return (
            grain.MapDataset.source(source)
            .shuffle(shuffle_seed)
            .slice(slice(length))
            .repeat()
            .random_map(view, seed=augmentation_seed)
        )

    if further:
        parts = [first, *further]
        examples = grain.MapDataset.mix(
            [views(part.source, part.augmentation, len(part.source)) for part in parts],
            [part.share for part in parts],
        )
    else:
        examples = views(source, augmentation, num_steps * batch_size)
    rows = _ProcessRows(examples, batch_size, start_step, num_rows, process_index)
    batches = grain.MapDataset.source(rows).batch(num_rows, batch_fn=_stack)
    bytes_per_pixel = 7 if with_weak_views else 4
    return read_ahead(batches, num_workers, num_rows * image_size**2 * bytes_per_pixel)


def eval_batches(
    source,
    *,
    label_set: LabelSet,
    image_size: int,
    batch_size: int,
    num_workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    crop_margin: float | None = None,
) -> Batches:
    """Returns an iterator over a set, once and in order, each image fitted into the input.

    Each example is in exactly one batch of one process with mask True. Every process makes the
    same number of batches, all of the same size; the remaining rows have mask False.

    Args:
      source: random-access source, see `sources`.
      label_set: meaning of the labels.
      image_size: side S of the square input, pixels.
      batch_size: global batch size, a multiple of `process_count`.
      num_workers: worker processes; with 0, two threads of this process work ahead.
      process_index: which of the processes that evaluate together this is.
      process_count: how many there are.
      crop_margin: as for `train_batches`.

    Returns:
      Iterator of dicts with, for `b = batch_size // process_count`: "image" uint8
      `[b, S, S, 3]` RGB, black outside the photograph; "mask" bool `[b]`; "matrix" float64
      `[b, 2, 3]`, label pixel to input pixel; "index" int64 `[b]`, the place in the source, -1
      where mask is False; "label" list of b uint8 `[h, w]` at their own sizes (`[1, 1]` of the
      ignore label where mask is False); "name" list of b strings ("" where mask is False).

    Raises:
      UserError: where an example is broken, at the latest on iteration.
    """
    num_rows = _rows_per_process(batch_size, process_count)
    num_steps = -(-len(source) // batch_size)
    examples = _PaddedViews(
        source, num_steps * batch_size, image_size, label_set.ignore_label, crop_margin
    )
    rows = _ProcessRows(examples, batch_size, 0, num_rows, process_index)
    batches = grain.MapDataset.source(rows).batch(num_rows, batch_fn=_stack_views)
    # Labels come at their own sizes; the first one's is taken for all.
    label_bytes = source[0]["label"].nbytes if num_workers and len(source) else 0
    view_bytes = image_size**2 * 3 + label_bytes
    return read_ahead(batches, num_workers, num_rows * view_bytes)


def _rows_per_process(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"the batch size is {batch_size}; it must be a multiple of the {process_count} "
            "processes that share it."
        )
    return batch_size // process_count


class _RandomView(grain.transforms.RandomMap):
    """Turns an example of a source into a training example."""

    def __init__(
        self,
        size: int,
        augmentation: Augmentation,
        label_set: LabelSet,
        crop_margin: float | None,
        with_weak_view: bool,
    ):
        self._options = {
            "size": size,
            "augmentation": augmentation,
            "label_set": label_set,
            "crop_margin": crop_margin,
            "with_weak_view": with_weak_view,
        }

    def random_map(self, example: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return augment(example, rng, **self._options)


class _ProcessRows:
    """One process's rows of the global batches, from a given batch on."""

    def __init__(self, examples, batch_size: int, first_batch: int, rows: int, process_index: int):
        self._examples = examples
        self._batch_size = batch_size
        self._first_batch = first_batch
        self._rows = rows
        self._first_row = process_index * rows

    def __len__(self) -> int:
        rows = (len(self._examples) // self._batch_size - self._first_batch) * self._rows
        return min(rows, _ENDLESS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch, row = divmod(index, self._rows)
        batch += self._first_batch
        return self._examples[batch * self._batch_size + self._first_row + row]


class _PaddedViews:
    """A source's images or crops fitted into the input, with empty examples up to a length."""

    def __init__(
        self, source, length: int, size: int, ignore_label: int, crop_margin: float | None
    ):
        self._source = source
        self._length = length
        self._size = size
        self._ignore_label = ignore_label
        self._crop_margin = crop_margin

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= len(self._source):
            return {
                "image": np.zeros((self._size, self._size, 3), np.uint8),
                "mask": False,
                "matrix": box_matrix(photograph_box((1, 1)), self._size),
                "index": -1,
                "label": np.full((1, 1), self._ignore_label, np.uint8),
                "name": "",
            }
        example = self._source[index]
        image, label = example["image"], example["label"]
        box = shown_box(example, self._crop_margin)
        matrix = box_matrix(box, self._size, margin=self._crop_margin or 0.0)
        return {
            "image": warp_image(image, matrix, self._size),
            "mask": True,
            "matrix": change_source(matrix, image.shape[:2], label.shape),
            "index": index,
            "label": label,
            "name": example["name"],
        }


def _stack(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def _stack_views(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    batch = {key: [view[key] for view in views] for key in views[0]}
    return batch | {key: np.stack(batch[key]) for key in ("image", "mask", "matrix", "index")}
