"""Your own photographs and classes, from the model that comes with the package.

    python -m dmlcsr_jax.main --config=configs/fine_tune.py --workdir=DIR \
        --config.data.root=FOLDER

`FOLDER` holds `images/`, `labels/` of the same names and `label_names.txt` with one class name a
line, label 0 first (docs/data.md); `--config.data.label_set` names another label set or file.
Classes that the package's model has under the same name, or in a set whose parts are known, start
from what it knows of them. With 50 photographs 240 steps, about eight minutes of two CPU cores;
with more or fewer, let `train.num_epochs` and `csr.start_epoch` be such that some hundred steps are
made. What it brings: docs/evidence.md.
"""

from dmlcsr_jax.configs import celebamask_hq_small, celebamask_hq_wild


def get_config():
    config = celebamask_hq_small.get_config()
    config.model.init_from = "default"
    config.model.license = celebamask_hq_wild.LICENSE
    config.data.label_set = ""
    config.data.image_size = 257
    config.data.repeat_threshold = 0.0
    config.optim.learning_rate = 8e-4
    config.optim.ema_decay = 0.98
    config.train.batch_size = 8
    config.train.num_epochs = 40
    config.csr.start_epoch = 40
    config.eval.batch_size = 8
    config.eval.every_epochs = 10
    config.log.panels_every_epochs = 10
    return config
