"""Evaluation of a complete set at the labels' original size."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dmlcsr_jax.data import warp
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.evaluation import metrics
from dmlcsr_jax.models.label_tiles import counts_from_scores, label_from_scores
from dmlcsr_jax.models.scores import LookAhead, PredictFn
from dmlcsr_jax.progress import progress_bar


@dataclasses.dataclass(frozen=True)
class ImageRecord:
    """One image of the set as the network saw it, with its score.

    Attributes:
      index: place in the source.
      name: the image's name.
      score: its own mean F1 over the classes other than background that its label has.
      image: uint8 `[S, S, 3]` RGB, the network's input.
      label: uint8 `[S, S]`, truth on the input grid, the ignore label outside.
      prediction: uint8 `[S, S]`, prediction on the input grid, the ignore label outside.
    """

    index: int
    name: str
    score: float
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found, the same in every process.

    Attributes:
      label_set: meaning of the labels that were compared.
      confusion: int64 `[C, C]`, pixels by true (row) and predicted class, over all images.
      boundary_confusion: the same of the pixels within 2 of a boundary between true classes.
      num_images: images counted.
      image_scores: float64 `[N]`, `image_score` of the images that have one, 0 to 1, lowest first.
      worst: the images with the lowest scores, worst first.
      seconds: wall-clock time.
    """

    label_set: LabelSet
    confusion: np.ndarray
    boundary_confusion: np.ndarray
    num_images: int
    image_scores: np.ndarray
    worst: tuple[ImageRecord, ...]
    seconds: float

    @property
    def problem(self) -> str | None:
        """Why there are no figures: a sentence where no pixel counts, or None."""
        if self.confusion.any():
            return None
        return (
            f"no pixel of the {self.num_images:,} images of the evaluation set counts: all have "
            f"the label {self.label_set.ignore_label}, which is ignored, so that there are no "
            "figures; correct the labels or choose the label set that they are of."
        )

    @property
    def image_mean_f1(self) -> float:
        """Mean of the image scores; not-a-number where there is none."""
        # Rounded once, so that the number of processes does not matter.
        return metrics.ratio(math.fsum(self.image_scores), len(self.image_scores))

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of `metrics.summarize`, and what is not pooled over all pixels.

        These are `boundary_mean_f1`, of the pixels within 2 of a boundary; `image_mean_f1`; and
        `worst_tenth_mean_f1`, the mean over the tenth of the images with the lowest scores.
        """
        worst = self.image_scores[: math.ceil(len(self.image_scores) / 10)]
        boundary = metrics.summarize(self.boundary_confusion, self.label_set)
        return metrics.summarize(self.confusion, self.label_set) | {
            "boundary_mean_f1": boundary["mean_f1"],
            "image_mean_f1": self.image_mean_f1,
            "worst_tenth_mean_f1": metrics.ratio(math.fsum(worst), len(worst)),
        }


def image_score(confusion: np.ndarray, label_set: LabelSet) -> float:
    """Returns the mean F1 of one image over the classes its label has, background left out.

    Args:
      confusion: int64 `[C, C]` of the image alone.
      label_set: says which class is background.

    Returns:
      0 to 1; not-a-number for an image whose label has none of those classes.
    """
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    present = [c for c in label_set.mean_f1_classes if truth[c]]
    if not present:
        return float("nan")
    f1 = 2 * np.diag(confusion)[present] / (truth + predicted)[present]
    return float(f1.mean())


def evaluate(
    predict_fn: PredictFn,
    variables,
    batches: Iterable[Mapping[str, Any]],
    label_set: LabelSet,
    *,
    mesh: jax.sharding.Mesh | None = None,
    num_examples: int | None = None,
    num_worst: int = 12,
    tick: Callable[[], None] = lambda: None,
    label_table: np.ndarray | None = None,
    prediction_table: np.ndarray | None = None,
    description: str = "evaluate",
) -> EvaluationResult:
    """Evaluates a network on a set; the host's part runs beside the devices'.

    Every process must call this together, each with its own batches, equally many.

    Args:
      predict_fn: from `scores.make_predict_fn`.
      variables: `{"params", "batch_stats"}`.
      batches: as `data.batches.eval_batches` gives them; images whose mask is False count
        nowhere.
      label_set: meaning of the labels that are compared.
      mesh: the mesh to split batches over; None: JAX's default device, and one process.
      num_examples: images in the set, for the time left.
      num_worst: how many of the worst images to keep.
      tick: called once a batch, before it; what it raises ends the evaluation.
      label_table: uint8 `[256]`, turns the source's labels into `label_set`'s.
      prediction_table: uint8 `[256]`, turns the network's labels into classes of `label_set`.
      description: shown before the progress bar.

    Returns:
      Counts over all processes.

    Raises:
      UserError: where a batch cannot be read.
    """
    started = time.perf_counter()
    tally = _Tally(label_set, num_worst, label_table, prediction_table)
    process_count = jax.process_count() if mesh is not None else 1
    bar = progress_bar(num_examples, unit="image", description=description, leave=False)
    look_ahead = LookAhead(predict_fn, variables)
    on_host: collections.deque = collections.deque()

    def count(pool, batch, scores):
        if len(scores) != batch["mask"].size:
            raise ValueError(
                f"the predictor returned {len(scores)} rows for {batch['mask'].size} images; "
                "its output must be split like its input"
            )
        rows = np.flatnonzero(batch["mask"])
        on_host.append([pool.submit(tally.add, batch, int(row), scores[row]) for row in rows])
        # Scores are large: no more than one batch's waits for the host.
        if len(on_host) > 1:
            for future in on_host.popleft():
                future.result()
        # Other processes are about as far as this one.
        done = rows.size * process_count
        bar.update(done if num_examples is None else min(done, num_examples - bar.n))

    with (
        contextlib.closing(_closable(batches)) as batches,
        bar,
        concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool,
    ):
        for batch in batches:
            tick()
            images = batch["image"]
            if mesh is not None:
                images = sharding.put_batch(images, mesh)
            for scored in look_ahead.start(batch, images):
                count(pool, *scored)
        for scored in look_ahead.rest():
            count(pool, *scored)
        for futures in on_host:
            for future in futures:
                future.result()
    found = tally.over_all_processes(process_count)
    return EvaluationResult(label_set, *found, time.perf_counter() - started)


def _closable(batches: Iterable[Mapping[str, Any]]) -> Generator[Mapping[str, Any]]:
    """Returns an iterator whose `close` ends the workers of `batches` too, where it has any."""
    try:
        yield from batches
    finally:
        if hasattr(batches, "close"):
            batches.close()


_EVERY_LABEL = np.arange(256, dtype=np.uint8)


class _Tally:
    """Counts of one process; images may be added from several threads, in any order."""

    def __init__(
        self,
        label_set: LabelSet,
        num_worst: int,
        label_table: np.ndarray | None,
        prediction_table: np.ndarray | None,
    ):
        self._label_set = label_set
        self._num_worst = num_worst
        self._label_table = _EVERY_LABEL if label_table is None else label_table
        self._prediction_table = _EVERY_LABEL if prediction_table is None else prediction_table
        self._confusion = np.zeros((label_set.num_classes,) * 2, np.int64)
        self._boundary_confusion = np.zeros_like(self._confusion)
        self._num_images = 0
        self._scores: list[float] = []
        self._worst: list[ImageRecord] = []
        self._lock = threading.Lock()

    def add(self, batch: Mapping[str, Any], row: int, scores: jax.Array) -> None:
        """Counts one image of a batch, given its scores `[h, h, C]`."""
        size, matrix = batch["image"].shape[1], batch["matrix"][row]
        label = self._label_table[batch["label"][row]]
        num_classes, ignore_label = self._label_set.num_classes, self._label_set.ignore_label
        kinds = metrics.kinds_of_pixels(label, num_classes, ignore_label)
        counts = counts_from_scores(scores, matrix, kinds, size, 2 * num_classes)
        taken_for = self._prediction_table[: scores.shape[-1]]
        counts = counts @ np.eye(num_classes, dtype=np.int64)[taken_for]
        boundary_confusion = counts[num_classes:]
        confusion = counts[:num_classes] + boundary_confusion
        index = int(batch["index"][row])
        score = image_score(confusion, self._label_set)
        with self._lock:
            self._confusion += confusion
            self._boundary_confusion += boundary_confusion
            self._num_images += 1
            if np.isnan(score):
                return
            self._scores.append(score)
            if not self._is_among_worst(score, index):
                return
        prediction = self._prediction_table[label_from_scores(scores, matrix, label.shape, size)]
        record = ImageRecord(
            index=index,
            name=str(batch["name"][row]),
            score=score,
            image=np.array(batch["image"][row]),
            label=warp.warp_label(label, matrix, size, ignore_label),
            prediction=warp.warp_label(prediction, matrix, size, ignore_label),
        )
        with self._lock:
            self._worst = _worst_of([*self._worst, record], self._num_worst)

    def _is_among_worst(self, score: float, index: int) -> bool:
        if len(self._worst) < self._num_worst:
            return True
        return bool(self._worst) and (score, index) < _badness(self._worst[-1])

    def over_all_processes(
        self, process_count: int
    ) -> tuple[np.ndarray, np.ndarray, int, np.ndarray, tuple[ImageRecord, ...]]:
        """Returns the counts summed, all scores and the worst images, in every process."""
        own_scores = np.sort(np.array(self._scores))
        confusions = np.stack([self._confusion, self._boundary_confusion])
        if process_count == 1:
            return *confusions, self._num_images, own_scores, tuple(self._worst)
        confusions = gather(confusions).sum(axis=0)
        most = int(gather(np.int64(len(own_scores))).max())
        padding = np.full(most - len(own_scores), np.nan)
        image_scores = gather(np.concatenate([own_scores, padding])).ravel()
        image_scores = np.sort(image_scores[~np.isnan(image_scores)])
        num_images = int(gather(np.int64(self._num_images)).sum())
        scores = np.full(self._num_worst, np.inf)
        indices = np.full(self._num_worst, -1, np.int64)
        for place, record in enumerate(self._worst):
            scores[place], indices[place] = record.score, record.index
        all_scores, all_indices = gather(scores).ravel(), gather(indices).ravel()
        order = np.lexsort((all_indices, all_scores))
        chosen = [int(all_indices[i]) for i in order if all_indices[i] >= 0][: self._num_worst]
        own = {record.index: record for record in self._worst}
        sizes = gather(np.int64(self._worst[0].label.shape[0] if self._worst else 0))
        worst = [_broadcast_record(own.get(index), index, int(sizes.max())) for index in chosen]
        return *confusions, num_images, image_scores, tuple(worst)


def _badness(record: ImageRecord) -> tuple[float, int]:
    return record.score, record.index


def _worst_of(records: list[ImageRecord], count: int) -> list[ImageRecord]:
    return sorted(records, key=_badness)[:count]


def gather(array: np.ndarray) -> np.ndarray:
    """Returns `[processes, ...]`: every process's array, exact whatever its dtype.

    JAX without x64 would cut int64 and float64 to 32 bits, hence the bytes.
    """
    array = np.asarray(array)
    data = np.frombuffer(array.tobytes(), np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(data))
    return np.frombuffer(gathered.tobytes(), array.dtype).reshape(-1, *array.shape)


_NAME_BYTES = 512


def _broadcast_record(record: ImageRecord | None, index: int, size: int) -> ImageRecord:
    """Returns in every process the record that one of them has."""
    arrays = {
        "name": np.zeros(_NAME_BYTES, np.uint8),
        "score": np.zeros(8, np.uint8),
        "image": np.zeros((size, size, 3), np.uint8),
        "label": np.zeros((size, size), np.uint8),
        "prediction": np.zeros((size, size), np.uint8),
    }
    if record is not None:
        name = np.frombuffer(record.name.encode()[-_NAME_BYTES:], np.uint8)
        arrays["name"][: name.size] = name
        arrays["score"] = np.frombuffer(np.float64(record.score).tobytes(), np.uint8)
        arrays |= {key: getattr(record, key) for key in ("image", "label", "prediction")}
    arrays = multihost_utils.broadcast_one_to_all(arrays, is_source=record is not None)
    return ImageRecord(
        index=index,
        name=bytes(arrays["name"]).rstrip(b"\0").decode(errors="replace"),
        score=float(np.frombuffer(arrays["score"].tobytes(), np.float64)[0]),
        image=arrays["image"],
        label=arrays["label"],
        prediction=arrays["prediction"],
    )
