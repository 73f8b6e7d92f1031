"""The programs of a run, each compiled as it is first called."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import ml_collections
import numpy as np
import optax

from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.models.scores import PredictFn, make_predict_fn
from dmlcsr_jax.self_regulation import teacher
from dmlcsr_jax.training import step
from dmlcsr_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Programs:
    """What runs on the devices.

    Attributes:
      hard_step: `step.train_step` by the labels alone; takes over the buffers of its state.
      soft_step: the same with the teacher's soft targets.
      average: of both trees of parameters and the cycle, the next teacher's.
      statistics_step: `step.statistics_step`.
      panel_step: `step.panel_step`.
      predict: of variables and images, the scores that are evaluated.
    """

    hard_step: Callable
    soft_step: Callable
    average: Callable
    statistics_step: Callable
    panel_step: Callable
    predict: PredictFn


def make_programs(
    config: ml_collections.ConfigDict,
    model,
    metadata: Metadata,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: jax.sharding.Mesh,
    state_sharding: TrainState,
    groups: np.ndarray | None = None,
) -> Programs:
    """Returns the programs of a run.

    Args:
      config: its `csr`, `loss`, `optim` and `eval`.
      model: the network.
      metadata: its description.
      optimizer: gives the update of the parameters.
      schedule: learning rate by step, for the record.
      mesh: the devices.
      state_sharding: the shardings of a `TrainState`.
      groups: bool `[G, C]`, the classes that labels from C on allow; None: there are none.
    """
    common = {"model": model, "metadata": metadata}
    edge_width = config.loss.edge_width
    train_step = functools.partial(
        step.train_step,
        optimizer=optimizer,
        schedule=schedule,
        loss_weights=config.loss.weights,
        edge_width=edge_width,
        loss_resolution=config.loss.resolution,
        ema_decay=config.optim.ema_decay,
        lovasz=config.loss.lovasz,
        mesh=mesh,
        groups=groups,
        confidence=config.loss.confidence,
        **common,
    )
    hard_step, soft_step = (
        jax.jit(
            functools.partial(train_step, self_regulated=self_regulated),
            out_shardings=(state_sharding, sharding.replicated(mesh)),
            donate_argnums=(0,),
        )
        for self_regulated in (False, True)
    )
    return Programs(
        hard_step=hard_step,
        soft_step=soft_step,
        average=jax.jit(
            teacher.average if config.csr.average else teacher.replace,
            out_shardings=state_sharding.teacher_params,
        ),
        statistics_step=jax.jit(
            functools.partial(step.statistics_step, **common),
            out_shardings=state_sharding.teacher_batch_stats,
        ),
        panel_step=jax.jit(functools.partial(step.panel_step, edge_width=edge_width, **common)),
        predict=make_predict_fn(
            model, metadata, mesh=mesh, flip=config.eval.flip, scales=tuple(config.eval.scales)
        ),
    )
