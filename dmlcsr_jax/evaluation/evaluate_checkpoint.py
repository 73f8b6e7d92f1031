"""Evaluation of a checkpoint on a config's data, with everything that is left to look at."""

import logging
import re
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
from etils import epath

from dmlcsr_jax import config as config_lib
from dmlcsr_jax.atomic_file import make_folder
from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.data.sources import open_source
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.errors import UserError, differences
from dmlcsr_jax.evaluation import report
from dmlcsr_jax.evaluation.evaluate import EvaluationResult
from dmlcsr_jax.evaluation.evaluate_source import evaluate_source
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.models.scores import make_predict_fn

log = logging.getLogger(__name__)


def results_folder(
    config: ml_collections.ConfigDict, workdir: epath.PathLike, checkpoint: str
) -> epath.Path:
    """Returns where the results of a checkpoint on the data of `config` are written.

    The name tells evaluations of one checkpoint apart: by label set, split, and averaging where
    there is any.
    """
    name = f"{checkpoint} {config.data.label_set} {config.data.eval_split}"
    scales = tuple(map(float, config.eval.scales))
    if config.eval.flip:
        name += " flip"
    if scales != (1.0,):
        name += f" scales {' '.join(f'{scale:g}' for scale in scales)}"
    return epath.Path(workdir) / "eval" / re.sub(r"[^\w.-]+", "_", name).strip("_")


def _network(metadata: Metadata) -> dict[str, Any]:
    """Returns what a config says of a network too, but for the label set, which is the data's."""
    others = ("label_set", "edge_branch", "license")
    return {name: value for name, value in metadata.to_json().items() if name not in others}


def evaluate_checkpoint(
    config: ml_collections.ConfigDict,
    workdir: epath.PathLike,
    checkpoint: str | None,
    *,
    out: epath.PathLike | None = None,
    tick: Callable[[], None] = lambda: None,
) -> EvaluationResult:
    """Restores a model, evaluates it, prints the table and writes the results.

    Preprocessing comes from the checkpoint. Where the data has another label set than the
    checkpoint, they are compared in their common parts: see `evaluate_source`.

    Args:
      config: says which data, at what batch size, with what averaging.
      workdir: where the names of checkpoints are looked up.
      checkpoint: latest, best, teacher, teacher:K or a path, as `model.resolve` takes it; None:
        what a run ships, its last teacher or without cycles its latest student.
      out: folder of the results; None: `results_folder`.
      tick: called once a batch.

    Returns:
      The counts, the same in every process.

    Raises:
      UserError: where config, data or checkpoint cannot be used; after the results are written,
        where no pixel counts.
    """
    config_lib.validate(config)
    mesh = sharding.make_mesh()
    sharding.check_batch_size("eval.batch_size", config.eval.batch_size, mesh)
    if checkpoint is None:
        has_teacher = model.newest_in(epath.Path(workdir) / "teachers")
        checkpoint = "teacher" if has_teacher else "latest"
    path = model.resolve(checkpoint, workdir)
    metadata, variables = model.load_model(path)
    configured = Metadata.from_config(config)
    if differing := differences(_network(metadata), _network(configured)):
        log.info("the network is the checkpoint's (there), not the config's (here): %s", differing)
    data_labels = configured.label_set
    source = open_source(config, "eval", data_labels)

    out = epath.Path(out or results_folder(config, workdir, checkpoint))
    if jax.process_index() == 0:
        make_folder(out)  # Before the work, not after it.

    predict_fn = make_predict_fn(
        build_model(metadata, config.model.dtype),
        metadata,
        mesh=mesh,
        flip=config.eval.flip,
        scales=tuple(config.eval.scales),
    )
    result = evaluate_source(
        predict_fn,
        variables,
        source,
        data_labels,
        config=config,
        metadata=metadata,
        mesh=mesh,
        tick=tick,
    )
    if jax.process_index() == 0:
        about = {
            "checkpoint": f"{path.parent.name}/{path.name}",
            "split": config.data.eval_split,
            "flip": config.eval.flip,
            "scales": list(map(float, config.eval.scales)),
        }
        print(report.write_report(out, result, about))
        log.info("results are in %s", out)
    if problem := result.problem:
        raise UserError(problem)
    return result
