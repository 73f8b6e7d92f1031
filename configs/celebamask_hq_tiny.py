"""CelebAMask-HQ photographs in a folder, 19 classes, a tiny encoder: for two CPU cores.

    python -m dmlcsr_jax.main --config=celebamask_hq_tiny --workdir=DIR \
        --config.data.root=FOLDER

`FOLDER` holds `images/`, `labels/`, `train_list.txt` and `val_list.txt`.
"""

from dmlcsr_jax.configs import default


def get_config():
    config = default.get_config()
    config.model.encoder = "tiny"
    config.model.license = (
        "CelebAMask-HQ and what is made from it: for non-commercial research only."
    )
    config.data.source = "folder"
    config.data.label_set = "celebamask_hq"
    config.data.eval_split = "val"
    config.data.image_size = 112
    config.data.num_workers = 0
    config.optim.learning_rate = 0.05
    config.optim.warmup_epochs = 2
    config.train.batch_size = 16
    config.train.num_epochs = 32
    config.csr.start_epoch = 20
    config.csr.cycle_epochs = 4
    config.eval.batch_size = 20
    config.eval.every_epochs = 4
    config.log.every_steps = 11
    config.log.panels_every_epochs = 4
    return config
