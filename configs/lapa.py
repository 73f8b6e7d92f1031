"""LaPa, 11 classes: the paper's full settings (ResNet-101, 473x473, 200 epochs, CSR from 150).

    python -m dmlcsr_jax.main --config=lapa --workdir=DIR --config.data.root=PREPARED

`PREPARED` is what `python -m dmlcsr_jax.data.prepare --dataset=lapa` wrote. Meant for a slice or
node whose device count divides the batch of 28 (4 GPUs as in the paper; v5e-4). Published score:
mean F1 92.38 (mIoU 87.13). Add `--config.model.pretrained=FILE` for ImageNet weights, as the
paper does.
"""

from dmlcsr_jax.configs import default


def get_config():
    config = default.get_config()
    config.model.license = "LaPa and what is made from it: for non-commercial research only."
    config.data.source = "prepared"
    config.data.label_set = "lapa"
    return config
