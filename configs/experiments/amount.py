"""Amount: mean F1 by the number of training photographs, from ImageNet weights and from scratch.

    python -m dmlcsr_jax.experiments amount --root=FOLDER[,FOLDER...] --workdir=DIR

All runs make about 352 steps, so that the number of photographs alone differs; but the 4,163 are
seen once, which is 260.
"""

from dmlcsr_jax.configs.experiments import base

COUNTS = (100, 300, 708, 1500, 2816, 4163)
_STEPS = base.NUM_EPOCHS * base.STEPS_PER_EPOCH
_STARTS = {"pretrained": {}, "scratch": {"model.pretrained": "", "optim.encoder_lr_mult": 1.0}}


def _epochs(count: int) -> dict[str, int]:
    return base.lasting(max(1, round(_STEPS / (count // base.BATCH_SIZE))))


BASELINE = "{group}_708"
RUNS = {
    f"{start}_{count}": fields | _epochs(count) | {"data.num_train_examples": count}
    for start, fields in _STARTS.items()
    for count in COUNTS
}


def get_config(run: str = ""):
    return base.run_config(RUNS, run)
