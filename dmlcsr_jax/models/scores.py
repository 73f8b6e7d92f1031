"""From photographs at the input size to scores; `label_tiles` makes labels of them."""

import collections
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dmlcsr_jax.distributed.sharding import batch_sharding, local_row_arrays
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models import normalize
from dmlcsr_jax.models.layers import resize
from dmlcsr_jax.models.metadata import IMAGE_SIZES, Metadata

PredictFn = Callable[[Any, Any], jax.Array]

# Batches that the devices have got and whose scores the host has not: one computes, one waits.
_BATCHES_AHEAD = 2


def make_predict_fn(
    model,
    metadata: Metadata,
    *,
    mesh: jax.sharding.Mesh | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
) -> PredictFn:
    """Returns the compiled function that gives the input's classes their scores.

    Args:
      model: the network; only its parsing branch runs, with running statistics.
      metadata: input size, normalisation, left/right pairs.
      mesh: over whose `data` axis the images and with them the scores are split; None: this
        process's own devices, where the scores lie as XLA likes.
      flip: averages with the mirrored image, its left and right channels exchanged back.
      scales: the input is also seen at these multiples of its size, and the views are averaged.

    Returns:
      `predict(variables, images)`: `variables` is `{"params", "batch_stats"}`, `images` uint8
      `[B, S, S, 3]` RGB; the result is float32 (float64 for float64 parameters): of a single view
      the logits `[B, h, h, C]` at the network's own resolution, of several the logarithms of the
      mean probabilities, `[B, S, S, C]`. Either way, mapped to the pixels bilinearly, corners on
      corners, the highest score is the label.

    Raises:
      UserError: where `scales` is empty or holds what is no number above 0, or makes the input
        larger than inputs may be.
    """
    scales = tuple(float(scale) for scale in scales)
    size = metadata.image_size
    if not scales or not all(0 < size * scale <= IMAGE_SIZES[-1] for scale in scales):
        raise UserError(
            f"the scales are {scales}; give one or more numbers above 0, such as 1.0, with which "
            f"the input of {size} pixels has at most {IMAGE_SIZES[-1]}."
        )
    mirrored_channels = metadata.label_set.mirror_table()[: metadata.label_set.num_classes]
    num_views = len(scales) * (2 if flip else 1)

    def logits_of(variables, images):
        logits = model.apply(variables, images, train=False)["parsing"]
        return logits if num_views == 1 else resize(logits, (size, size))

    def predict(variables, images):
        dtype = jax.tree.leaves(variables["params"])[0].dtype
        images = normalize.normalize(images, metadata, dtype)
        views = []
        for scale in scales:
            side = max(1, round(size * scale))
            view = images if side == size else resize(images, (side, side))
            views.append(logits_of(variables, view))
            if flip:
                mirrored = logits_of(variables, view[:, :, ::-1])
                views.append(mirrored[:, :, ::-1, mirrored_channels])
        if num_views == 1:
            return views[0]
        sums = functools.reduce(jnp.logaddexp, map(jax.nn.log_softmax, views))
        return sums - math.log(num_views)

    return jax.jit(predict, out_shardings=None if mesh is None else batch_sharding(mesh))


class LookAhead:
    """Keeps the devices busy: the next batch is started before the scores of one are waited for."""

    def __init__(self, predict_fn: PredictFn, variables):
        self._predict_fn = predict_fn
        self._variables = variables
        self._started: collections.deque = collections.deque()

    def start(self, batch: Any, images) -> list[tuple[Any, list[jax.Array]]]:
        """Starts `images`, uint8 `[B, S, S, 3]`; `batch` is given back with their scores.

        Returns:
          The batches whose turn it is, one or none, each with the scores of this process's rows,
          which stay on their devices.
        """
        self._started.append((batch, self._predict_fn(self._variables, images)))
        return [self._take()] if len(self._started) == _BATCHES_AHEAD else []

    def rest(self) -> Iterator[tuple[Any, list[jax.Array]]]:
        """Yields the batches that are still computed, with their scores."""
        while self._started:
            yield self._take()

    def _take(self) -> tuple[Any, list[jax.Array]]:
        batch, scores = self._started.popleft()
        return batch, local_row_arrays(scores)


@functools.partial(jax.jit, static_argnames="size")
def at_input_size(scores, size: int):
    """Returns floating `[..., size, size, C]`: the scores of every pixel of the network's input.

    Args:
      scores: `[..., h, h, C]`, as `make_predict_fn`'s function returns them.
      size: side of the input.
    """
    return resize(scores, (size, size))
