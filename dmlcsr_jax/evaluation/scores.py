"""From photographs at the input size to scores, and from scores to labels at the original size."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from dmlcsr_jax.checkpoints.metadata import IMAGE_SIZES, Metadata
from dmlcsr_jax.data import unwarp
from dmlcsr_jax.distributed.sharding import batch_sharding, local_rows
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models import normalize
from dmlcsr_jax.models.layers import resize

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
    """Returns the compiled function that gives every pixel of the input its scores.

    Args:
      model: the network; only its parsing branch runs, with running statistics.
      metadata: input size, normalisation, left/right pairs.
      mesh: over whose `data` axis the images and with them the scores are split; None: this
        process's own devices, where the scores lie as XLA likes.
      flip: averages with the mirrored image, its left and right channels exchanged back.
      scales: the input is also seen at these multiples of its size, and the views are averaged.

    Returns:
      `predict(variables, images)`: `variables` is `{"params", "batch_stats"}`, `images` uint8
      `[B, S, S, 3]` RGB; the result is float32 `[B, S, S, C]` (float64 for float64 parameters):
      logits of a single view, mean probabilities of several. Either way the highest score is the
      label.

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

    def logits_at_input_size(variables, images):
        logits = model.apply(variables, images, train=False)["parsing"]
        return resize(logits, (size, size))

    def predict(variables, images):
        dtype = jax.tree.leaves(variables["params"])[0].dtype
        images = normalize.normalize(images, metadata, dtype)
        views = []
        for scale in scales:
            side = max(1, round(size * scale))
            view = images if side == size else resize(images, (side, side))
            views.append(logits_at_input_size(variables, view))
            if flip:
                mirrored = logits_at_input_size(variables, view[:, :, ::-1])
                views.append(mirrored[:, :, ::-1, mirrored_channels])
        if num_views == 1:
            return views[0]
        return sum(jax.nn.softmax(view, axis=-1) for view in views) / num_views

    return jax.jit(predict, out_shardings=None if mesh is None else batch_sharding(mesh))


class LookAhead:
    """Keeps the devices busy: the next batch is started before the scores of one are waited for."""

    def __init__(self, predict_fn: PredictFn, variables):
        """Takes the function that `make_predict_fn` returns, and its first argument."""
        self._predict_fn = predict_fn
        self._variables = variables
        self._started: collections.deque = collections.deque()

    def start(self, batch: Any, images) -> list[tuple[Any, np.ndarray]]:
        """Starts `images`, uint8 `[B, S, S, 3]`; `batch` is given back with their scores.

        Returns:
          The batches whose turn it is, one or none, each with its scores: float32
          `[local B, S, S, C]`, this process's rows.
        """
        self._started.append((batch, self._predict_fn(self._variables, images)))
        return [self._take()] if len(self._started) == _BATCHES_AHEAD else []

    def rest(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Yields the batches that are still on the devices, with their scores."""
        while self._started:
            yield self._take()

    def _take(self) -> tuple[Any, np.ndarray]:
        batch, scores = self._started.popleft()
        return batch, local_rows(scores)


def label_from_scores(scores: np.ndarray, matrix: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Maps one image's scores back to its original size and takes the best class.

    Args:
      scores: float32 `[S, S, C]`, as `make_predict_fn`'s function returns them.
      matrix: float64 `[2, 3]`, original pixel to input pixel (`warp.box_matrix`).
      hw: original height and width.

    Returns:
      uint8 `[h, w]`, labels; the lowest of equally good ones; 0, the background, where the input
      does not reach.
    """
    label = np.zeros(hw, np.uint8)
    for place, strip, shown in unwarp.strips(scores, matrix, hw):
        np.copyto(label[place], np.argmax(strip, axis=-1), where=shown, casting="unsafe")
    return label
