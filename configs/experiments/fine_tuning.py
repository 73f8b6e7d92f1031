"""Fine-tuning: own photographs from the package's model, or from ImageNet weights alone.

    python -m dmlcsr_jax.experiments fine_tuning --root=FOLDER --workdir=DIR

`FOLDER` holds the 100-image sample of FaceSynthetics, which the package's model has not seen: the
first 50 in `train_list.txt`, the others in `val_list.txt`. It is `configs/fine_tune.py` with fewer
pixels and steps; all runs make about as many steps.
"""

from dmlcsr_jax.configs import fine_tune
from dmlcsr_jax.configs.experiments import base

COUNTS = (10, 25, 50)
_STEPS = 150
_IMAGENET = {
    "model.init_from": "",
    "model.pretrained": "efficientnet_lite0",
    "optim.learning_rate": 1.5e-3,
}
_STARTS = {"model": {}, "imagenet": _IMAGENET}


def _epochs(count: int) -> dict[str, int]:
    epochs = _STEPS // (count // fine_tune.get_config().train.batch_size)
    return base.lasting(epochs) | {"log.panels_every_epochs": epochs}


BASELINE = "imagenet_{last}"
RUNS = {
    f"{start}_{count}": fields | _epochs(count) | {"data.num_train_examples": count}
    for count in COUNTS
    for start, fields in _STARTS.items()
}


def get_config(run: str = ""):
    config = fine_tune.get_config()
    config.data.label_set = "face_synthetics"
    config.data.image_size = 193
    config.checkpoint.every_epochs = 1000
    return base.run_config(RUNS, run, config)
