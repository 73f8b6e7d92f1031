"""The learning-rate schedule and the optimisers."""

import jax
import jax.numpy as jnp
import ml_collections
import optax

_FLOOR = 0.01  # the lowest rate, as a part of the base rate


def optimizer_from_config(
    config: ml_collections.ConfigDict, steps_per_epoch: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Returns the optimiser of a config that `config.validate` has passed, and its schedule."""
    optim = config.optim
    schedule = learning_rate(
        base_rate=optim.learning_rate * config.train.batch_size / optim.base_batch_size,
        steps_per_epoch=steps_per_epoch,
        num_epochs=config.train.num_epochs,
        warmup_epochs=optim.warmup_epochs,
        start_epoch=config.csr.start_epoch,
        cycle_epochs=config.csr.cycle_epochs,
        restart_factor=config.csr.restart_factor,
    )
    return optimizer(
        schedule,
        optim.momentum,
        optim.weight_decay,
        name=optim.name,
        encoder_lr_mult=optim.encoder_lr_mult,
        grad_clip_norm=optim.grad_clip_norm,
    ), schedule


def learning_rate(
    *,
    base_rate,
    steps_per_epoch,
    num_epochs,
    warmup_epochs,
    start_epoch,
    cycle_epochs,
    restart_factor=0.5,
):
    """Returns the schedule of the method, "Optimisation and data".

    Linear warm-up from `base_rate / 100` to `base_rate` over `warmup_epochs`; half a cosine down to
    `base_rate / 100` at `start_epoch`; from there, every `cycle_epochs`, half a cosine from
    `restart_factor * base_rate` down to `base_rate / 100`. Where `start_epoch` is not below
    `num_epochs` there are no cycles, and the cosine ends at `num_epochs`. Rates change every step.
    It is `config.validate` that checks the values.

    Args:
      base_rate: the highest rate, positive.
      steps_per_epoch: a positive integer.
      num_epochs: a positive integer.
      warmup_epochs: 0 or more, at most `start_epoch` and `num_epochs`.
      start_epoch: the epoch, counted from 0, in which the first cycle begins.
      cycle_epochs: a positive integer.
      restart_factor: 0.01 to 1, the method's is 0.5.

    Returns:
      Function of the step, an integer that counts from 0 and may be traced, to a float32 scalar.
    """
    end_epoch = min(start_epoch, num_epochs)
    warmup_steps, end = warmup_epochs * steps_per_epoch, end_epoch * steps_per_epoch
    # Durations of at least a step: optax refuses empty parts, whose rates nobody sees.
    first = optax.join_schedules(
        [
            optax.linear_schedule(_FLOOR * base_rate, base_rate, max(1, warmup_steps)),
            optax.cosine_decay_schedule(base_rate, max(1, end - warmup_steps), alpha=_FLOOR),
        ],
        [warmup_steps],
    )
    if start_epoch >= num_epochs:
        return first
    cycle = optax.cosine_decay_schedule(
        restart_factor * base_rate,
        cycle_epochs * steps_per_epoch,
        alpha=_FLOOR / restart_factor,
    )

    def schedule(step):
        in_cycle = jnp.maximum(step - end, 0) % (cycle_epochs * steps_per_epoch)
        return jnp.where(step < end, first(step), cycle(in_cycle))

    return schedule


def optimizer(
    schedule, momentum, weight_decay, *, name="sgd", encoder_lr_mult=1.0, grad_clip_norm=0.0
):
    """Returns an optimiser of the network's parameters.

    "sgd" is PyTorch's: `d = g + weight_decay p; v = momentum v + d; p -= rate v`. "adamw"
    (arXiv 1711.05101) decays kernels alone, by `rate * weight_decay`.

    Args:
      schedule: learning rate, a number or a function of the step.
      momentum: 0 to below 1; of "adamw" the decay of the mean gradient.
      weight_decay: 0 or more; "sgd" applies it to every parameter.
      name: "sgd" or "adamw".
      encoder_lr_mult: factor on the rate of the parameters under "encoder".
      grad_clip_norm: the gradient is scaled down to this norm where it is longer; 0: it is not.

    Returns:
      `optax.GradientTransformation`; its update needs the parameters.
    """
    if name == "adamw":
        steps = [optax.adamw(schedule, momentum, weight_decay=weight_decay, mask=_is_kernel)]
    else:
        steps = [optax.add_decayed_weights(weight_decay), optax.sgd(schedule, momentum=momentum)]
    if grad_clip_norm:
        steps.insert(0, optax.clip_by_global_norm(grad_clip_norm))
    if encoder_lr_mult != 1:
        scaled = optax.masked(optax.scale(encoder_lr_mult), _is_of_encoder)
        steps.append(scaled)
    return optax.chain(*steps)


def _is_kernel(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _is_of_encoder(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key == "encoder", params)
