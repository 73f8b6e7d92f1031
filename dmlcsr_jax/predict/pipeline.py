"""Photographs on their way through the network, in full batches of the views of all of them."""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.faces import Box, Face
from dmlcsr_jax.predict.networks import Network
from dmlcsr_jax.predict.views import View, shown


@dataclasses.dataclass
class Photograph:
    """A photograph to parse, and how far it has come.

    Attributes:
      image: uint8 `[H, W, 3]` RGB.
      faces: faces to look at, each `(x0, y0, x1, y1)`: left, top, right and bottom edge in pixels
        from the photograph's top left corner; or a `Face`, whose views are levelled by its roll.
        None: all of the photograph.
      name: what the photograph is called.
      are_found: whether a detector found the faces: they are looked at in wider views too, a single
        one that fills the photograph is not cropped, and false ones are dropped. Of faces that are
        given, crops alone are parsed; what lies in none of them becomes background.
      is_searched: whether a detector looked for faces: where it found none, and the map shows no
        person either, all is background.
      is_kept: whether the result has the pixels, which wait for it in memory; else it has zeros.
      views: what the network is shown of it.
      reduced: uint8 `[S, S, 3]`, all of it, where its pixels are gone; None else.
      item: what it was loaded from.
      error: why it could not be loaded.
    """

    image: np.ndarray
    faces: Sequence[Box | Face] = ()
    name: str = ""
    are_found: bool = False
    is_searched: bool = False
    is_kept: bool = True
    views: list[View] = dataclasses.field(default_factory=list)
    reduced: np.ndarray | None = None
    item: Any = None
    error: UserError | None = None


def scored(
    network: Network, planned: Iterable[tuple[Photograph, list[np.ndarray]]], batch_size: int
) -> Iterator[Photograph]:
    """Yields photographs in order, each when the scores of all its views are there.

    Args:
      network: gives the scores.
      planned: the photographs, each with what its first views show, uint8 `[S, S, 3]`; what the
        others show is made when it is their turn.
      batch_size: views that go through the network together.

    Raises:
      UserError: where scores are not finite.
    """
    waiting: collections.deque[Photograph] = collections.deque()
    started: collections.deque[tuple[list[View], Any]] = collections.deque()
    rows: list[tuple[View, np.ndarray]] = []

    def start() -> None:
        images = np.stack([image for _, image in rows])
        started.append(([view for view, _ in rows], network.scores(images)))
        rows.clear()

    def take(most_left: int) -> Iterator[Photograph]:
        while len(started) > most_left:
            batch, scores = started.popleft()
            for view, row in zip(batch, np.asarray(scores), strict=False):
                if not np.isfinite(row).all():
                    raise UserError(
                        "the network's scores are not finite: its weights, or its mean and std, "
                        "are none of a network that works; get the model again."
                    )
                view.scores = row
        while waiting and all(view.scores is not None for view in waiting[0].views):
            yield waiting.popleft()

    for photograph, inputs in planned:
        waiting.append(photograph)
        for number, view in enumerate(photograph.views):
            is_made = number < len(inputs)
            image = inputs[number] if is_made else shown(photograph.image, view.matrix, view.size)
            rows.append((view, image))
            if len(rows) == batch_size:
                start()
                # One batch is computed while the scores of the one before are taken.
                yield from take(1)
        yield from take(len(started))
    if rows:
        start()
    yield from take(0)


def in_order(
    function: Callable[[Any], Any], items: Iterable[Any], pool, ahead: int
) -> Iterator[Any]:
    """Yields `function(item)` of each item, in order, computed in threads up to `ahead` early."""
    pending: collections.deque[concurrent.futures.Future] = collections.deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
