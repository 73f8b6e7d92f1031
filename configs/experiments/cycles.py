"""Cycles: where self-regulation pays (arXiv 2203.14448, section 3.4), beside annealing once.

    python -m dmlcsr_jax.experiments cycles --root=FOLDER[,FOLDER...] --workdir=DIR

`few`: 100 photographs, 40 % of their labels spoiled, for as many steps as the other experiments
have; `long`: the same for four times as many, so that labels are learned by heart, with cycles in
the last half, `long_late` with the paper's proportions, five cycles in the last quarter (without
soft targets in `long_late_averaging`), `long_early` before anything is learned by heart;
`converged`: from the package's model, 708 photographs, clean labels.
"""

from dmlcsr_jax.configs.experiments import base

_SPOILED = {"data.num_train_examples": 100, "data.label_noise": 0.4}
_FEW = _SPOILED | base.lasting(60)
_LONG = _SPOILED | base.lasting(240) | {"data.image_size": 97}
_LATE = _LONG | {"csr.start_epoch": 180, "csr.cycle_epochs": 12}
_CONVERGED = {
    "model.init_from": "default",
    "model.pretrained": "",
    "optim.learning_rate": 5e-4,
}

BASELINE = "{group}_hard"
RUNS = {
    "few_hard": _FEW,
    "few_csr": _FEW | {"csr.start_epoch": 45, "csr.cycle_epochs": 5},
    "long_hard": _LONG,
    "long_csr": _LONG | {"csr.start_epoch": 120, "csr.cycle_epochs": 20},
    "long_early": _LONG | {"csr.start_epoch": 60, "csr.cycle_epochs": 20},
    "long_late": _LATE,
    "long_late_averaging": _LATE | {"csr.soft_targets": False},
    "long_clean": _LONG | {"data.label_noise": 0.0},
    "converged_hard": _CONVERGED,
    "converged_csr": _CONVERGED | {"csr.start_epoch": base.NUM_EPOCHS // 2},
}


def get_config(run: str = ""):
    return base.run_config(RUNS, run)
