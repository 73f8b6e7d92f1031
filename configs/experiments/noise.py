"""Noise: what self-regulation protects from (arXiv 2203.14448, sections 3.4 and 4.4).

    python -m dmlcsr_jax.experiments noise --root=FOLDER[,FOLDER...] --workdir=DIR

The labels of 0, 20 and 40 % of the training photographs are spoiled (`data.label_noise`). Beside
self-regulation run its halves: averaging alone, with hard labels; soft targets alone, of the last
student; and an exponential moving average whose mean age in steps is that of the students.
"""

from dmlcsr_jax.configs.experiments import base

_NUM_CYCLES = base.NUM_EPOCHS - base.START_EPOCH
# Students are made at the ends of cycles: 0, 1, 2, ... epochs before the end.
_MEAN_AGE = base.STEPS_PER_EPOCH * (_NUM_CYCLES - 1) / 2
_WAYS = {
    "hard": {},
    "csr": base.CYCLES,
    "averaging": base.CYCLES | {"csr.soft_targets": False},
    "soft": base.CYCLES | {"csr.average": False},
    "ema": {"optim.ema_decay": _MEAN_AGE / (_MEAN_AGE + 1)},
}

BASELINE = "{group}_hard"
RUNS = {
    f"noise{share}_{way}": fields | {"data.label_noise": share / 100}
    for share in (0, 20, 40)
    for way, fields in _WAYS.items()
}


def get_config(run: str = ""):
    return base.run_config(RUNS, run)
