"""Photographs through the network in full batches, whichever photographs the rows are of."""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from dmlcsr_jax.data import warp
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.composite import Composite
from dmlcsr_jax.predict.faces import Box, Face


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph to parse.

    Attributes:
      image: uint8 `[H, W, 3]` RGB.
      boxes: faces to look at, each `(x0, y0, x1, y1)`: left, top, right and bottom edge in pixels
        from the photograph's top left corner; or a `Face`, whose crop is levelled by its eyes.
        None: all of the photograph. What lies in no face's crop becomes label 0, the background;
        `Composite` says what becomes of pixels in several crops.
      name: what the photograph is called.
      complete: parses all of the photograph, although its one face is known.
      is_wide: whether each face is looked at in a wider view too, which labels what no crop shows.
      is_kept: whether `finish` is given the pixels, which wait for it in memory; else it is given
        zeros.
    """

    image: np.ndarray
    boxes: Sequence[Box | Face] = ()
    name: str = ""
    complete: bool = False
    is_wide: bool = False
    is_kept: bool = True

    def for_finish(self) -> "Photograph":
        """Returns what waits for the label map: this, or one that has its shape but no memory."""
        if self.is_kept:
            return self
        return dataclasses.replace(self, image=np.broadcast_to(np.uint8(0), self.image.shape))


@dataclasses.dataclass
class Views:
    """A photograph on its way: what the network is shown of it, and what it has said so far.

    Attributes:
      item: what it was loaded from.
      photograph: what is parsed; None where `error` says why there is none.
      faces: those in it.
      matrices: one a view, float64 `[2, 3]`, photograph pixel to input pixel.
      inputs: the first views, uint8 `[S, S, 3]`; the others are made when it is their turn.
      part: a label whose probability is wanted too.
      num_close: how many of the views are close ones; 0: all.
      label: uint8 `[H, W]`, where the network labelled the photograph itself, without views.
      is_complete: whether the only view shows all of the photograph.
      error: why it could not be loaded.
      composite: what the views' scores come to.
    """

    item: Any
    photograph: Photograph | None = None
    faces: list[Face] = dataclasses.field(default_factory=list)
    matrices: list[np.ndarray] = dataclasses.field(default_factory=list)
    inputs: list[np.ndarray] = dataclasses.field(default_factory=list)
    part: int | None = None
    num_close: int = 0
    label: np.ndarray | None = None
    is_complete: bool = False
    error: UserError | None = None
    composite: Composite | None = None
    added: list[concurrent.futures.Future] = dataclasses.field(default_factory=list)

    @property
    def is_scored(self) -> bool:
        """Whether the scores of every view are there, or there will be none."""
        return len(self.added) == len(self.matrices)

    def wait(self) -> None:
        """Waits until the scores that are there are in the composite."""
        for future in self.added:
            future.result()


class Scorer:
    """Runs a network on full batches."""

    def __init__(self, network: Any, size: int):
        """Keeps the arguments.

        Args:
          network: as `open_network` returns it.
          size: side of its input, pixels.
        """
        self._network = network
        self._size = size

    def score(
        self, loaded: Iterable[Views], batch_size: int, pool: concurrent.futures.Executor
    ) -> Iterator[Views]:
        """Yields what is loaded, in order, each when the scores of all its views are there.

        Args:
          loaded: the photographs.
          batch_size: of every batch but the last, which may be smaller.
          pool: where scores are added to the composites.
        """
        queue: collections.deque[Views] = collections.deque()
        rows: list[tuple[Views, int, np.ndarray]] = []
        adding: collections.deque[concurrent.futures.Future] = collections.deque()
        pipeline = self._network.pipeline(batch_size)

        def start():
            images = np.stack([image for _, _, image in rows])
            owners = [(views, view) for views, view, _ in rows]
            rows.clear()
            return pipeline.start(owners, images)

        def give(owners, scores):
            for (views, view), row in zip(owners, scores, strict=False):
                # Scores are large: no more than two batches of them wait.
                if len(adding) >= 2 * batch_size:
                    adding.popleft().result()
                adding.append(pool.submit(self._add, views, view, row))
                views.added.append(adding[-1])

        def scored():
            while queue and queue[0].is_scored:
                yield queue.popleft()

        for views in loaded:
            queue.append(views)
            if views.error is None:
                hw, count = views.photograph.image.shape[:2], len(views.matrices)
                views.composite = Composite(
                    hw, count, num_close=views.num_close or count, part=views.part
                )
                if views.label is not None:
                    views.composite.set(views.label)
            inputs, views.inputs = views.inputs, []
            for view, matrix in enumerate(views.matrices):
                is_made = view < len(inputs)
                image = inputs[view] if is_made else self.input(views.photograph.image, matrix)
                rows.append((views, view, image))
                if len(rows) == batch_size:
                    for batch in start():
                        give(*batch)
            yield from scored()
        for batch in [*(start() if rows else ()), *pipeline.rest()]:
            give(*batch)
            yield from scored()

    def _add(self, views: Views, view: int, scores: Any) -> None:
        matrix, composite = views.matrices[view], views.composite
        label = None
        if views.is_complete and views.part is None:
            label = self._network.label_of(scores, matrix, composite.label.shape)
        if label is not None:
            composite.set(label)
        else:
            scores = self._network.on_host(scores)
            composite.add(view + 1, scores, matrix, self._network.are_logits)

    def input(self, image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Returns what the network is shown of a photograph, uint8 `[S, S, 3]`."""
        return warp.warp_image(image, matrix, self._size)


def in_order(
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
