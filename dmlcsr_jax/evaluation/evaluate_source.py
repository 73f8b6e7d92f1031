"""One evaluation of a network on a source, during training and of a checkpoint."""

import logging
from collections.abc import Callable

import jax
import ml_collections

from dmlcsr_jax.data import label_maps
from dmlcsr_jax.data.batches import eval_batches
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.evaluation.evaluate import EvaluationResult, evaluate
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.models.scores import PredictFn

log = logging.getLogger(__name__)


def evaluate_source(
    predict_fn: PredictFn,
    variables,
    source,
    label_set: LabelSet,
    *,
    config: ml_collections.ConfigDict,
    metadata: Metadata,
    mesh: jax.sharding.Mesh,
    tick: Callable[[], None],
    description: str = "evaluate",
) -> EvaluationResult:
    """Evaluates a network on all of a source; every process must call this together.

    Where the source has another label set than the network, both are mapped onto their common parts
    (`data.label_maps`).

    Args:
      predict_fn: from `scores.make_predict_fn`.
      variables: `{"params", "batch_stats"}`.
      source: random-access source, see `data.sources`.
      label_set: meaning of the source's labels.
      config: says how the source is read, its `eval` and `data`.
      metadata: of the network.
      mesh: the devices.
      tick: called once a batch; what it raises ends the evaluation.
      description: shown before the progress bar.

    Returns:
      Counts over all processes.

    Raises:
      UserError: where the labels cannot be compared, or an example cannot be read.
    """
    compared = label_maps.shared_label_set(label_set, metadata.label_set)
    if compared.classes != metadata.label_set.classes:
        log.info("labels are compared as %s", ", ".join(compared.classes))
    with eval_batches(
        source,
        label_set=label_set,
        image_size=metadata.image_size,
        crop_margin=config.data.crop_margin,
        batch_size=config.eval.batch_size,
        num_workers=config.data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    ) as batches:
        return evaluate(
            predict_fn,
            variables,
            batches,
            compared,
            mesh=mesh,
            num_examples=len(source),
            label_table=label_maps.label_map(label_set, compared).labels,
            prediction_table=label_maps.label_map(metadata.label_set, compared).predictions,
            tick=tick,
            description=description,
        )
