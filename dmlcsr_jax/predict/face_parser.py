"""A trained network as something that takes photographs and gives label maps."""

import collections
import concurrent.futures
import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.data import warp
from dmlcsr_jax.distributed.sharding import batch_sharding, replicated
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation.scores import LookAhead, label_from_scores, make_predict_fn
from dmlcsr_jax.models.dmlcsr import build_model

_DEFAULT_MARGIN = 0.5

Box = Sequence[float]


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph to parse.

    Attributes:
      image: uint8 `[H, W, 3]` RGB.
      boxes: faces to look at, each `(x0, y0, x1, y1)`: left, top, right and bottom edge in pixels
        from the photograph's top left corner; none: all of the photograph. What lies in no face's
        crop becomes label 0, the background; where crops overlap, the earlier face has precedence.
      name: what the photograph is called.
      is_kept: whether `finish` is given the pixels, which wait for it in memory; else it is given
        zeros.
    """

    image: np.ndarray
    boxes: Sequence[Box] = ()
    name: str = ""
    is_kept: bool = True

    def for_finish(self) -> "Photograph":
        """Returns what waits for the label map: this, or one that has its shape but no memory."""
        if self.is_kept:
            return self
        return dataclasses.replace(self, image=np.broadcast_to(np.uint8(0), self.image.shape))


@dataclasses.dataclass
class _Views:
    """A photograph on its way: what the network is shown of it, and what it has said so far."""

    item: Any
    photograph: Photograph | None = None
    inputs: list[np.ndarray] = dataclasses.field(default_factory=list)
    matrices: list[np.ndarray] = dataclasses.field(default_factory=list)
    scores: list[np.ndarray] = dataclasses.field(default_factory=list)
    error: UserError | None = None

    @property
    def is_scored(self) -> bool:
        return self.error is not None or len(self.scores) == len(self.matrices)


class FaceParser:
    """Parses photographs with a checkpoint's network, with the preprocessing of evaluation.

    Photographs of any size are fitted into the network's input, parsed in batches of one static
    shape, split over this process's devices, and their scores are mapped back to the original
    size, where the best class of each pixel is taken.

    Attributes:
      metadata: what the checkpoint says of itself: input size, normalisation, label set.
      label_set: meaning of the labels.
      margin: what is shown beyond a face's box on each side, as a share of its longer side.
    """

    def __init__(
        self,
        checkpoint: epath.PathLike,
        *,
        batch_size: int = 8,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        margin: float | None = None,
        dtype: str = "float32",
    ):
        """Restores the network and places it on this process's devices.

        Args:
          checkpoint: path of a checkpoint or of a run's workdir, as `model.resolve` takes
            it.
          batch_size: photographs (or faces) that go to the devices together.
          flip: averages with the mirrored photograph.
          scales: averages over these multiples of the input size.
          margin: what is shown beyond a face's box on each side, as a share of its longer side;
            None: as the network was trained, or 0.5 where it was trained on uncropped images.
          dtype: of the computation, "float32" or "bfloat16".

        Raises:
          UserError: where the checkpoint cannot be read or a value is impossible.
        """
        if batch_size < 1:
            raise UserError(f"the batch size is {batch_size}; it must be 1 or more.")
        if margin is not None and not 0 <= margin < math.inf:
            raise UserError(f"the margin is {margin}; it must be 0 or more.")
        self.metadata, variables = model.load_model(checkpoint)
        if margin is None:
            margin = self.metadata.crop_margin
        if margin is None:
            margin = _DEFAULT_MARGIN
        self.label_set = self.metadata.label_set
        self._batch_size = batch_size
        self.margin = margin
        devices = jax.local_devices()[: math.gcd(batch_size, jax.local_device_count())]
        self._mesh = jax.sharding.Mesh(np.array(devices), ("data",))
        variables = jax.device_get(model.without_edge_branch(variables))
        self._variables = jax.device_put(variables, replicated(self._mesh))
        self._predict_fn = make_predict_fn(
            build_model(self.metadata, dtype), self.metadata, flip=flip, scales=scales
        )
        self._num_threads = max(2, os.cpu_count() or 1)

    @property
    def variables(self) -> dict[str, Any]:
        """The network's `{"params", "batch_stats"}`, without the edge branch."""
        return self._variables

    @property
    def num_at_a_time(self) -> int:
        """How many photographs `stream` holds at most: being read, scored and finished."""
        return 4 * self._batch_size + 2 * self._num_threads + 2

    def parse(self, image: np.ndarray, boxes: Sequence[Box] = ()) -> np.ndarray:
        """Returns uint8 `[H, W]`, the label of each pixel of one photograph, in a batch of one.

        Args:
          image: uint8 `[H, W, 3]` RGB.
          boxes: as in `Photograph`.

        Raises:
          UserError: where `image` is no such array or a box is empty.
        """
        return self._parse([Photograph(image, boxes)], batch_size=1)[0]

    def parse_batch(
        self, images: Iterable[np.ndarray], boxes: Iterable[Sequence[Box]] | None = None
    ) -> list[np.ndarray]:
        """Returns the label maps of several photographs, which may differ in size.

        Args:
          images: uint8 `[H, W, 3]` RGB each.
          boxes: those of each photograph, as in `Photograph`; None: no boxes.

        Returns:
          uint8 `[H, W]` for each photograph, in order.

        Raises:
          UserError: where an image is no such array or a box is empty.
        """
        images = list(images)
        boxes = [()] * len(images) if boxes is None else list(boxes)
        photographs = [Photograph(*pair) for pair in zip(images, boxes, strict=True)]
        return self._parse(photographs, self._batch_size)

    def _parse(self, photographs: list[Photograph], batch_size: int) -> list[np.ndarray]:
        labels = []
        for _, label in self._stream(photographs, lambda item: item, _label_alone, batch_size):
            if isinstance(label, UserError):
                raise label
            labels.append(label)
        return labels

    def stream(
        self,
        items: Iterable[Any],
        load: Callable[[Any], Photograph],
        finish: Callable[[Any, Photograph, np.ndarray], Any],
    ) -> Iterator[tuple[Any, Any]]:
        """Parses photographs one after the other while others are read and written.

        No more than a few batches of photographs are held at a time, however many items there are.

        Args:
          items: what `load` makes photographs of.
          load: called in a thread; a `UserError` it raises becomes the item's result.
          finish: called in a thread with item, photograph and label uint8 `[H, W]`.

        Returns:
          Iterator of item and result, in the order of `items`: what `finish` returned, or the
          `UserError` that `load` raised. Other errors, and those of `finish`, are raised.
        """
        return self._stream(items, load, finish, self._batch_size)

    def _stream(self, items, load, finish, batch_size: int) -> Iterator[tuple[Any, Any]]:
        with concurrent.futures.ThreadPoolExecutor(self._num_threads) as pool:
            views = self._score(self._load(items, load, pool, batch_size), batch_size)

            def finish_views(views: _Views):
                if views.error is not None:
                    return views.error
                return finish(views.item, views.photograph, self._label(views))

            try:
                for done, result in _in_order(finish_views, views, pool, self._num_threads):
                    yield done.item, result
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _load(self, items, load, pool, batch_size: int) -> Iterator[_Views]:
        def views_of(item) -> _Views:
            try:
                return self._views(item, load(item))
            except UserError as error:
                return _Views(item, error=error)

        ahead = batch_size + self._num_threads
        return (views for _, views in _in_order(views_of, items, pool, ahead))

    def _views(self, item, photograph: Photograph) -> _Views:
        """Fits a photograph, or each of its faces, into the network's input."""
        image, size = photograph.image, self.metadata.image_size
        is_photograph = isinstance(image, np.ndarray) and image.dtype == np.uint8
        if not is_photograph or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            found = f"{getattr(image, 'dtype', type(image))} {getattr(image, 'shape', '')}"
            raise UserError(f"a photograph must be a uint8 array [H, W, 3] in RGB, not {found}.")
        # From edges counted from the corner to coordinates with pixel centres at integers.
        boxes = [np.asarray(box, np.float64) - 0.5 for box in photograph.boxes]
        margin = self.margin if boxes else 0.0
        boxes = boxes or [warp.photograph_box(image.shape[:2])]
        matrices = [warp.box_matrix(box, size, margin=margin) for box in boxes]
        inputs = [warp.warp_image(image, matrix, size) for matrix in matrices]
        return _Views(item, photograph.for_finish(), inputs, matrices)

    def _score(self, loaded: Iterable[_Views], batch_size: int) -> Iterator[_Views]:
        """Runs the network on full batches, whichever photographs their rows are of."""
        queue: collections.deque[_Views] = collections.deque()
        rows: list[tuple[_Views, np.ndarray]] = []
        look_ahead = LookAhead(self._predict_fn, self._variables)
        splits = batch_size % self._mesh.size == 0
        sharding = batch_sharding(self._mesh) if splits else replicated(self._mesh)

        def start():
            size = self.metadata.image_size
            images = np.zeros((batch_size, size, size, 3), np.uint8)
            for place, (_, image) in enumerate(rows):
                images[place] = image
            owners = [views for views, _ in rows]
            rows.clear()
            return look_ahead.start(owners, jax.device_put(images, sharding))

        def give(owners, scores):
            for views, row in zip(owners, scores, strict=False):  # The last batch may be padded.
                views.scores.append(row)

        def scored():
            while queue and queue[0].is_scored:
                yield queue.popleft()

        for views in loaded:
            queue.append(views)
            inputs, views.inputs = views.inputs, []
            for image in inputs:
                rows.append((views, image))
                if len(rows) == batch_size:
                    for batch in start():
                        give(*batch)
            yield from scored()
        for batch in [*(start() if rows else ()), *look_ahead.rest()]:
            give(*batch)
            yield from scored()

    def _label(self, views: _Views) -> np.ndarray:
        """Returns the label map of a photograph whose views are scored."""
        hw = views.photograph.image.shape[:2]
        label = np.zeros(hw, np.uint8)
        for scores, matrix in zip(views.scores, views.matrices, strict=True):
            np.copyto(label, label_from_scores(scores, matrix, hw), where=label == 0)
        return label


def _label_alone(item, photograph: Photograph, label: np.ndarray) -> np.ndarray:
    del item, photograph
    return label


def _in_order(
    function: Callable[[Any], Any], items: Iterable[Any], pool, ahead: int
) -> Iterator[tuple[Any, Any]]:
    """Yields each item and `function(item)`, in order, computed in threads up to `ahead` early."""
    pending: collections.deque = collections.deque()
    for item in items:
        pending.append((item, pool.submit(function, item)))
        if len(pending) > ahead:
            item, future = pending.popleft()
            yield item, future.result()
    while pending:
        item, future = pending.popleft()
        yield item, future.result()
