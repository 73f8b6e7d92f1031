"""Batches for training and evaluation, read by Grain with worker processes.

Nothing here, nor what it imports of this project, needs JAX: workers are new processes that read
photographs and must not start an accelerator.
"""

import atexit
import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.transforms import (
    Augmentation,
    augment,
    change_source,
    fit_matrix,
    view_matrix,
    warp_image,
)
from dmlcsr_jax.errors import UserError

log = logging.getLogger(__name__)

# Batches made ahead of the one in use, in each worker.
_AHEAD = 2
# Larger arrays travel from a worker in shared memory: what goes through its pipe must be so small
# as to lie in there whole, or a worker that is told to end waits for a reader that waits for it.
_MIN_SHARED_BYTES = 2**12
_SHARED_MEMORY = "/dev/shm"
# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


class Batches(Iterator[dict[str, Any]]):
    """An iterator over batches and the worker processes that make them.

    The workers end with the iterator: at its last batch, at an error, on `close`, at the end of a
    `with` block, or at the latest when Python ends.
    """

    def __init__(self, iterator: grain.DatasetIterator):
        """Takes over Grain's iterator."""
        self._iterator: grain.DatasetIterator | None = iterator
        _open_batches.add(self)

    def __next__(self) -> dict[str, Any]:
        """Returns the next batch, waiting for it where the workers are not that far."""
        if self._iterator is None:
            raise StopIteration
        try:
            # Workers start in here, and inherit it: clusters that ask a run to save may signal all
            # of its processes, and the main one cannot go on without its workers.
            with _sigterm_held_back():
                return next(self._iterator)
        except BaseException:
            self.close()
            raise

    def close(self):
        """Ends the workers; there are no further batches then."""
        if self._iterator is not None:
            iterator, self._iterator = self._iterator, None
            iterator.close()
            del iterator
            # Grain's iterators are cycles that hold the batches made ahead: shared memory.
            gc.collect()

    def __enter__(self) -> "Batches":
        """Returns itself."""
        return self

    def __exit__(self, *exception):
        """Closes."""
        self.close()


@contextlib.contextmanager
def _sigterm_held_back():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_open_batches: weakref.WeakSet[Batches] = weakref.WeakSet()


@atexit.register
def _close_batches():
    """Ends what is still open before Python takes its modules apart, when Grain no longer can."""
    for batches in list(_open_batches):
        batches.close()


def num_train_steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns how many whole batches an epoch has; the remainder is dropped.

    Args:
      num_examples: length of the training source.
      batch_size: the global batch size.

    Raises:
      UserError: where there is no whole batch.
    """
    if num_examples < batch_size:
        raise UserError(
            f"the training set has {num_examples} examples, fewer than one batch of {batch_size}; "
            "choose a smaller batch size or a larger set."
        )
    return num_examples // batch_size


def train_batches(
    source,
    *,
    label_set: LabelSet,
    image_size: int,
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    num_workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Returns an endless iterator of shuffled, augmented training batches.

    Global batch k is a pure function of `seed` and k: it holds the same examples in the same order
    with the same augmentation whatever the process count, the worker count and the step at which
    iteration starts. Each epoch is shuffled and augmented anew and drops its remainder.

    Args:
      source: random-access source, see `sources`; must be picklable where there are workers.
      label_set: names the pairs that mirroring exchanges and the ignore label.
      image_size: side S of the square input, pixels.
      augmentation: ranges of the random views.
      batch_size: global batch size, a multiple of `process_count`.
      seed: 0 or more; decides order and augmentation.
      start_step: the global batch with which to begin.
      num_workers: worker processes; with 0, two threads of this process work ahead.
      process_index: which of the processes that train together this is.
      process_count: how many there are.

    Returns:
      Endless iterator of "image" uint8 `[b, S, S, 3]` RGB and "label" uint8 `[b, S, S]`: rows
      `process_index * b` to `(process_index + 1) * b` of the global batch,
      `b = batch_size // process_count`.

    Raises:
      UserError: where the source has not one batch, or on iteration where an example is broken.
    """
    num_rows = _rows_per_process(batch_size, process_count)
    num_steps = num_train_steps_per_epoch(len(source), batch_size)
    shuffle_seed, augmentation_seed = np.random.SeedSequence(seed).generate_state(2)
    view = _RandomView(image_size, augmentation, label_set)
    examples = (
        grain.MapDataset.source(source)
        .shuffle(int(shuffle_seed))
        .slice(slice(num_steps * batch_size))
        .repeat()
        .random_map(view, seed=int(augmentation_seed))
    )
    rows = _ProcessRows(examples, batch_size, start_step, num_rows, process_index)
    return _iterate(
        rows.batch(num_rows, batch_fn=_stack), num_workers, num_rows * image_size**2 * 4
    )


def eval_batches(
    source,
    *,
    label_set: LabelSet,
    image_size: int,
    batch_size: int,
    num_workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Returns an iterator over a set, once and in order, each image fitted into the input.

    Each example stands in exactly one batch of one process with mask True. Every process makes the
    same number of batches, all of the same size; what is too much is filled with mask False.

    Args:
      source: random-access source, see `sources`.
      label_set: meaning of the labels.
      image_size: side S of the square input, pixels.
      batch_size: global batch size, a multiple of `process_count`.
      num_workers: worker processes; with 0, two threads of this process work ahead.
      process_index: which of the processes that evaluate together this is.
      process_count: how many there are.

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
    examples = _PaddedViews(source, num_steps * batch_size, image_size, label_set.ignore_label)
    rows = _ProcessRows(grain.MapDataset.source(examples), batch_size, 0, num_rows, process_index)
    # Labels come at their own sizes; the first one's is taken for all.
    label_bytes = source[0]["label"].nbytes if num_workers and len(source) else 0
    view_bytes = image_size**2 * 3 + label_bytes
    return _iterate(rows.batch(num_rows, batch_fn=_stack_views), num_workers, num_rows * view_bytes)


def _rows_per_process(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"the batch size is {batch_size}; it must be a multiple of the {process_count} "
            "processes that share it."
        )
    return batch_size // process_count


class _RandomView(grain.transforms.RandomMap):
    """Turns an example of a source into a training example."""

    def __init__(self, size: int, augmentation: Augmentation, label_set: LabelSet):
        self._size = size
        self._augmentation = augmentation
        self._label_set = label_set

    def random_map(self, example: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return augment(
            example,
            rng,
            size=self._size,
            augmentation=self._augmentation,
            label_set=self._label_set,
        )


class _ProcessRows(grain.MapDataset):
    """One process's rows of the global batches, from a given batch on."""

    _MUTATES_ELEMENT_SPEC = False

    def __init__(
        self,
        parent: grain.MapDataset,
        batch_size: int,
        first_batch: int,
        rows: int,
        process_index: int,
    ):
        super().__init__(parent)
        self._batch_size = batch_size
        self._first_batch = first_batch
        self._rows = rows
        self._first_row = process_index * rows

    def __len__(self) -> int:
        return (len(self._parent) // self._batch_size - self._first_batch) * self._rows

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.slice(index)
        batch, row = divmod(index, self._rows)
        batch += self._first_batch
        return self._parent[batch * self._batch_size + self._first_row + row]


class _PaddedViews:
    """A source's images or crops fitted into the input, with empty examples up to a length."""

    def __init__(self, source, length: int, size: int, ignore_label: int):
        self._source = source
        self._length = length
        self._size = size
        self._ignore_label = ignore_label

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= len(self._source):
            return {
                "image": np.zeros((self._size, self._size, 3), np.uint8),
                "mask": False,
                "matrix": fit_matrix((1, 1), self._size),
                "index": -1,
                "label": np.full((1, 1), self._ignore_label, np.uint8),
                "name": "",
            }
        example = self._source[index]
        image, label = example["image"], example["label"]
        matrix = view_matrix(example, self._size)
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


def _iterate(batches: grain.MapDataset, num_workers: int, batch_bytes: int) -> Batches:
    """Returns an iterator over `batches` that works ahead in threads or in processes."""
    num_threads = _AHEAD
    if num_workers and not _shared_memory_holds(num_workers * (_AHEAD + 2) * batch_bytes):
        log.warning(
            "reading in %d threads instead of as many processes, which is slower: %s has no room "
            "for their batches (in Docker, give more by --shm-size)",
            num_workers,
            _SHARED_MEMORY,
        )
        num_threads, num_workers = max(num_workers, _AHEAD), 0
    if not num_workers:
        options = grain.ReadOptions(num_threads, prefetch_buffer_size=num_threads)
        return Batches(iter(batches.to_iter_dataset(options)))
    # Grain reads its settings from absl's flags, which a script without absl never parses.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    # Decoding and warping run without Python's lock; a worker is meant for one core.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_AHEAD)
    dataset = grain.experimental.WithOptionsIterDataset(
        batches.to_iter_dataset(options),
        grain.experimental.DatasetOptions(min_shm_size=_MIN_SHARED_BYTES),
    ).mp_prefetch(
        grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=_AHEAD),
        worker_init_fn=_start_worker,
    )
    return Batches(iter(dataset))


def _shared_memory_holds(num_bytes: int) -> bool:
    """Returns whether there is room: a worker that finds none dies of a bus error."""
    return os.path.isdir(_SHARED_MEMORY) and (
        2 * num_bytes < shutil.disk_usage(_SHARED_MEMORY).free
    )


def _start_worker(worker_index: int, worker_count: int):
    """Makes a worker process keep to its one core and end with the process that started it."""
    del worker_index, worker_count
    cv2.setNumThreads(0)
    # Each example's images go back to the system otherwise, to be mapped and zeroed anew for the
    # next: a quarter of the time.
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_TRIM_THRESHOLD, 2**28)
        mallopt(_M_MMAP_THRESHOLD, 2**25)
    # Ctrl-C reaches the workers too; the main process answers it, and stops them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
