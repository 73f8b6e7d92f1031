"""The pure functions that run on the devices, and nothing that waits for the host."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dmlcsr_jax.losses import edge_targets, objective
from dmlcsr_jax.losses.resolution import at_resolution
from dmlcsr_jax.models.layers import resize
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.models.normalize import normalize
from dmlcsr_jax.self_regulation.teacher import accumulate_statistics
from dmlcsr_jax.training.state import TrainState, update_average


def train_step(
    state: TrainState,
    batch: Mapping[str, jax.Array],
    *,
    model,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    metadata: Metadata,
    loss_weights: Mapping[str, float],
    edge_width: int,
    self_regulated: bool,
    loss_resolution: float = 1.0,
    ema_decay: float = 0.0,
    lovasz: str = "exact",
    mesh: jax.sharding.Mesh | None = None,
    groups: np.ndarray | None = None,
    confidence: float = 0.9,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimisation step on one global batch.

    Args:
      state: the run's state.
      batch: `image` uint8 `[B, S, S, 3]` RGB and `label` uint8 `[B, S, S]`; with `weak_image`, as
        `image`, a teacher's predictions there teach what the labels leave open.
      model: the network; its batch statistics are those of the global batch.
      optimizer: gives the update of the parameters.
      schedule: learning rate by step, for the record; `optimizer` holds its own.
      metadata: normalisation and ignore label.
      loss_weights: weight of each term, as `losses.objective` names them.
      edge_width: dilation of the edge targets, pixels.
      self_regulated: whether the teacher's soft targets replace part of the hard labels.
      loss_resolution: share of the input's resolution at which the losses are taken.
      ema_decay: of the state's average of weights, where it has one.
      lovasz: form of the Lovász term, as `losses.objective` names it.
      mesh: the mesh over which the batch is split; None for one device.
      groups: bool `[G, C]`, the classes that labels from C on allow; None: there are none.
      confidence: of that teacher, as for `losses.consistency`. It is the cycles' teacher, and
        before there is one the average of the weights.

    Returns:
      The next state, and float scalars: `loss`, each unweighted term, `learning_rate`,
      `grad_norm`, and `finite`, whether loss and gradients are all finite numbers.
    """
    dtype = jax.tree.leaves(state.params)[0].dtype
    images = normalize(batch["image"], metadata, dtype)
    label = at_resolution(batch["label"], loss_resolution).astype(jnp.int32)
    teacher_outputs = None
    if self_regulated:
        teacher_outputs = model.apply(state.teacher, images, train=False, edges=True)

    weak_teacher_logits = None
    if "weak_image" in batch:
        teacher = state.teacher if self_regulated else state.average
        weak_images = normalize(batch["weak_image"], metadata, dtype)
        weak_teacher_logits = model.apply(teacher, weak_images, train=False)["parsing"]

    def loss_fn(params):
        outputs, mutated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        total, terms = objective.objective(
            outputs,
            label,
            weights=loss_weights,
            edge_width=edge_width,
            lovasz=lovasz,
            ignore_label=metadata.label_set.ignore_label,
            teacher_outputs=teacher_outputs,
            cycle=state.cycle,
            mesh=mesh,
            groups=groups,
            weak_teacher_logits=weak_teacher_logits,
            confidence=confidence,
        )
        return total, (terms, mutated["batch_stats"])

    (loss, (terms, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    grad_norm = optax.tree.norm(grads)
    scalars = {
        "loss": loss,
        **terms,
        "learning_rate": schedule(state.step),
        "grad_norm": grad_norm,
        "finite": jnp.isfinite(loss) & jnp.isfinite(grad_norm),
    }
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
        trained = {"params": params, "batch_stats": batch_stats}
        average = update_average(average, trained, ema_decay, state.step)
    state = state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=average,
    )
    return state, scalars


def statistics_step(
    teacher: Mapping[str, Any], batch, num_seen, *, model, metadata: Metadata
) -> Any:
    """Takes one batch into the cumulative mean of the teacher's batch statistics.

    Args:
      teacher: `{"params", "batch_stats"}`; the statistics are the mean over `num_seen` batches.
      batch: `image` uint8 `[B, S, S, 3]` RGB.
      num_seen: scalar, batches already in the mean.
      model: the network.
      metadata: normalisation.

    Returns:
      The batch statistics as their mean over `num_seen + 1` batches.
    """
    dtype = jax.tree.leaves(teacher["params"])[0].dtype
    # Without momentum the running statistics after a batch are that batch's own.
    _, mutated = model.clone(momentum=0.0).apply(
        teacher,
        normalize(batch["image"], metadata, dtype),
        train=True,
        mutable=["batch_stats"],
    )
    return accumulate_statistics(teacher["batch_stats"], mutated["batch_stats"], num_seen)


def panel_step(
    student: Mapping[str, Any],
    teacher: Mapping[str, Any] | None,
    batch: Mapping[str, jax.Array],
    *,
    model,
    metadata: Metadata,
    edge_width: int,
) -> dict[str, jax.Array]:
    """What the panels show of one batch: targets and what student and teacher make of it.

    Args:
      student: `{"params", "batch_stats"}`.
      teacher: `{"params", "batch_stats"}`; None where there is none yet.
      batch: `image` uint8 `[B, S, S, 3]` RGB and `label` uint8 `[B, S, S]`.
      model: the network.
      metadata: normalisation and ignore label.
      edge_width: dilation of the edge targets, pixels.

    Returns:
      int32 `[B, S, S]` each: `label`, `binary_edge`, `category_edge` (targets), `prediction`,
      `predicted_binary_edge`, `predicted_category_edge`, and with a teacher `teacher_prediction`.
    """
    dtype = jax.tree.leaves(student["params"])[0].dtype
    images = normalize(batch["image"], metadata, dtype)
    label = batch["label"].astype(jnp.int32)
    # Groups have no colour.
    is_class = label < metadata.label_set.num_classes
    label = jnp.where(is_class, label, metadata.label_set.ignore_label)
    binary = edge_targets.binary_edge(label, edge_width, metadata.label_set.ignore_label)

    def predict(variables):
        outputs = model.apply(variables, images, train=False, edges=True)
        return {
            name: jnp.argmax(resize(logits, label.shape[1:]), axis=-1).astype(jnp.int32)
            for name, logits in outputs.items()
        }

    predicted = predict(student)
    panels = {
        "label": label,
        "binary_edge": binary,
        "category_edge": edge_targets.category_edge(label, binary),
        "prediction": predicted["parsing"],
        "predicted_binary_edge": predicted["binary_edge"],
        "predicted_category_edge": predicted["category_edge"],
    }
    if teacher is not None:
        panels["teacher_prediction"] = predict(teacher)["parsing"]
    return panels
