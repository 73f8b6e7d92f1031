import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from dmlcsr_jax.configs import default

from dmlcsr_jax import config
from dmlcsr_jax.data import batches
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.training import optimizer as optimizer_lib

PAPER = {
    "base_rate": 1e-3,
    "steps_per_epoch": 71,
    "num_epochs": 200,
    "warmup_epochs": 10,
    "start_epoch": 150,
    "cycle_epochs": 10,
}


def _closed_form(
    step, base_rate, steps_per_epoch, num_epochs, warmup_epochs, start_epoch, cycle, restart=0.5
):
    """The schedule in epochs, in double precision."""
    epoch = step / steps_per_epoch
    low = base_rate / 100
    if epoch < warmup_epochs:
        return low + (base_rate - low) * epoch / warmup_epochs
    end = min(start_epoch, num_epochs)
    if epoch < end or start_epoch >= num_epochs:
        part = min((epoch - warmup_epochs) / (end - warmup_epochs), 1)
        return low + (base_rate - low) * (1 + math.cos(math.pi * part)) / 2
    # In steps: an epoch's remainder is not exact in floating point.
    part = ((step - start_epoch * steps_per_epoch) % (cycle * steps_per_epoch)) / (
        cycle * steps_per_epoch
    )
    return low + (base_rate * restart - low) * (1 + math.cos(math.pi * part)) / 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warmup_epochs": 0},
        {"start_epoch": 200},
        {"start_epoch": 300},
        {"warmup_epochs": 150},
        {"steps_per_epoch": 1, "num_epochs": 6, "warmup_epochs": 1, "start_epoch": 2}
        | {"cycle_epochs": 2},
        {"num_epochs": 155},
        {"restart_factor": 0.1},
        {"restart_factor": 1.0},
        {"restart_factor": 0.01},
    ],
)
def test_schedule_is_its_closed_form_at_every_step(changes):
    values = PAPER | changes
    steps = np.arange(values["num_epochs"] * values["steps_per_epoch"])
    rates = jax.jit(jax.vmap(optimizer_lib.learning_rate(**values)))(jnp.asarray(steps))
    expected = [_closed_form(int(step), *values.values()) for step in steps]
    np.testing.assert_allclose(rates, expected, rtol=2e-5, atol=1e-9)


def test_landmarks_of_the_papers_schedule():
    schedule = jax.jit(optimizer_lib.learning_rate(**PAPER))

    def rate(epoch, step=0):
        return float(schedule(epoch * PAPER["steps_per_epoch"] + step))

    def is_near(value, rel=2e-5):
        return pytest.approx(value, rel=rel)

    assert rate(0) == is_near(1e-5)
    assert rate(5) == is_near((1e-5 + 1e-3) / 2)
    assert rate(10) == is_near(1e-3)
    assert rate(80) == is_near((1e-5 + 1e-3) / 2)
    assert rate(150, -1) == is_near(1e-5, rel=0.01)
    for start in (150, 160, 170, 180, 190):
        assert rate(start) == is_near(5e-4)
        assert rate(start + 5) == is_near((1e-5 + 5e-4) / 2)
        # A cycle of 710 steps ends 4.9e-6 of its height above the floor.
        assert rate(start + 10, -1) == is_near(1e-5, rel=3e-4)


def test_schedule_is_a_float32_function_of_a_traced_step():
    rate = jax.eval_shape(optimizer_lib.learning_rate(**PAPER), jax.ShapeDtypeStruct((), jnp.int32))
    assert (rate.shape, rate.dtype) == ((), jnp.float32)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optim.learning_rate": 0.0}, r"optim\.learning_rate is 0"),
        ({"optim.learning_rate": -1.0}, r"optim\.learning_rate is -1\.0"),
        ({"train.num_epochs": 0}, r"train\.num_epochs is 0"),
        ({"csr.cycle_epochs": 0}, r"csr\.cycle_epochs is 0"),
        ({"optim.warmup_epochs": -1}, r"optim\.warmup_epochs is -1"),
        ({"optim.warmup_epochs": 151}, r"optim\.warmup_epochs is 151"),
        (
            {"optim.warmup_epochs": 30, "train.num_epochs": 20, "csr.start_epoch": 20},
            "warmup_epochs is 30.* exceed .*20",
        ),
    ],
)
def test_impossible_schedules_are_refused_by_the_config(changes, named):
    settings = default.get_config()
    settings.data.source, settings.data.label_set = "synthetic", "helen"
    settings.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=named):
        config.validate(settings)


def test_an_epoch_without_a_step_is_refused():
    with pytest.raises(UserError, match=r"18 examples.*19.*train\.batch_size"):
        batches.num_train_steps_per_epoch(18, 19)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_optimizer_is_pytorchs_sgd(momentum):
    rng = np.random.default_rng(0)
    start = {"kernel": rng.normal(size=(4, 3)), "scale": rng.normal(size=(3,))}
    gradients = [
        {name: rng.normal(size=value.shape) for name, value in start.items()} for _ in range(6)
    ]
    rates = [0.1, 0.2, 0.15, 0.05, 0.3, 0.01]

    theirs = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start.items()}
    sgd = torch.optim.SGD(theirs.values(), lr=1.0, momentum=momentum, weight_decay=0.05)
    with jax.enable_x64(True):
        ours = jax.tree.map(jnp.asarray, start)
        optimizer = optimizer_lib.optimizer(lambda step: jnp.asarray(rates)[step], momentum, 0.05)
        state = optimizer.init(ours)
        update = jax.jit(optimizer.update)
        for rate, gradient in zip(rates, gradients, strict=True):
            updates, state = update(gradient, state, ours)
            ours = optax.apply_updates(ours, updates)

            sgd.param_groups[0]["lr"] = rate
            for name, parameter in theirs.items():
                parameter.grad = torch.tensor(gradient[name])
            sgd.step()
            for name, parameter in theirs.items():
                np.testing.assert_allclose(ours[name], parameter.detach().numpy(), rtol=1e-12)


def test_weight_decay_alone_shrinks_every_parameter():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((2,))}
    optimizer = optimizer_lib.optimizer(0.5, 0.9, 0.1)
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    for value in jax.tree.leaves(optax.apply_updates(params, updates)):
        np.testing.assert_allclose(value, 0.95, rtol=1e-6)


def test_adamw_is_pytorchs_with_two_rates_and_decays_kernels_alone():
    rng = np.random.default_rng(0)
    start = {
        "encoder": {"kernel": rng.normal(size=(4, 3)), "scale": rng.normal(size=(3,))},
        "parsing": {"kernel": rng.normal(size=(3, 2))},
    }
    theirs = jax.tree.map(lambda value: torch.nn.Parameter(torch.tensor(value)), start)
    adamw = torch.optim.AdamW(
        [
            {"params": [theirs["encoder"]["kernel"]], "lr": 0.02, "weight_decay": 0.3},
            {"params": [theirs["encoder"]["scale"]], "lr": 0.02, "weight_decay": 0.0},
            {"params": [theirs["parsing"]["kernel"]], "lr": 0.1, "weight_decay": 0.3},
        ],
        betas=(0.8, 0.999),
    )
    with jax.enable_x64(True):
        ours = jax.tree.map(jnp.asarray, start)
        optimizer = optimizer_lib.optimizer(0.1, 0.8, 0.3, name="adamw", encoder_lr_mult=0.2)
        state = optimizer.init(ours)
        for _ in range(4):
            gradient = jax.tree.map(lambda value: rng.normal(size=value.shape), start)
            updates, state = optimizer.update(gradient, state, ours)
            ours = optax.apply_updates(ours, updates)
            jax.tree.map(
                lambda parameter, value: setattr(parameter, "grad", torch.tensor(value)),
                theirs,
                gradient,
            )
            adamw.step()
            jax.tree.map(
                lambda x, y: np.testing.assert_allclose(x, y.detach().numpy(), rtol=1e-6),
                ours,
                theirs,
            )


@pytest.mark.parametrize(("length", "factor"), [(3.0, 1.0), (10.0, 0.5)])
def test_a_long_gradient_is_scaled_down(length, factor):
    params = {"encoder": {"kernel": jnp.zeros((2,))}, "parsing": {"kernel": jnp.zeros((1,))}}
    gradient = {
        "encoder": {"kernel": jnp.array([0.6, 0.0]) * length},
        "parsing": {"kernel": jnp.array([0.8]) * length},
    }
    optimizer = optimizer_lib.optimizer(1.0, 0.0, 0.0, grad_clip_norm=5.0)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    jax.tree.map(
        lambda update, value: np.testing.assert_allclose(update, -factor * value, rtol=1e-6),
        updates,
        gradient,
    )
