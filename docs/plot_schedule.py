"""Draws the learning rate of the paper's settings over a whole run.

    python -m docs.plot_schedule --out=schedule.png

from the repository's root. The values are those of configs/default.py, the rate is computed by
`dmlcsr_jax.training.optimizer.learning_rate`, which training uses.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from dmlcsr_jax.configs import default
from matplotlib.figure import Figure

from dmlcsr_jax.training import optimizer

STEPS_PER_EPOCH = 71  # Helen: 2000 images in batches of 28


def main() -> None:
    """Writes the picture."""
    arguments = argparse.ArgumentParser(prog="python -m docs.plot_schedule", description=__doc__)
    arguments.add_argument(
        "--out", default="schedule.png", help="the picture (default: %(default)s)"
    )
    out = arguments.parse_args().out
    config = default.get_config()
    epochs, start, cycle = config.train.num_epochs, config.csr.start_epoch, config.csr.cycle_epochs
    schedule = optimizer.learning_rate(
        base_rate=config.optim.learning_rate,
        steps_per_epoch=STEPS_PER_EPOCH,
        num_epochs=epochs,
        warmup_epochs=config.optim.warmup_epochs,
        start_epoch=start,
        cycle_epochs=cycle,
        restart_factor=config.csr.restart_factor,
    )
    steps = np.arange(epochs * STEPS_PER_EPOCH)
    rates = jax.vmap(schedule)(jnp.asarray(steps))

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(start, epochs, color="tab:orange", alpha=0.08, lw=0)
    for m, begin in enumerate(range(start, epochs, cycle)):
        axes.annotate(
            f"m={m}",
            (begin + cycle / 2, config.optim.learning_rate * 0.51),
            ha="center",
            fontsize=8,
            color="tab:red",
        )
    axes.annotate(
        "self-regulation:\nat the end of each cycle m the\nstudent is averaged into the teacher",
        ((start + epochs) / 2, config.optim.learning_rate * 0.86),
        ha="center",
        va="center",
        fontsize=8,
        color="tab:red",
    )
    axes.plot(steps / STEPS_PER_EPOCH, rates, color="tab:blue")
    axes.set(
        xlabel="epoch",
        ylabel=f"learning rate at batch {config.optim.base_batch_size}",
        xlim=(0, epochs),
        ylim=(0, config.optim.learning_rate * 1.05),
    )
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
