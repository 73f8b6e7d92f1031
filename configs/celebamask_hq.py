"""CelebAMask-HQ, 19 classes: the paper's full settings (ResNet-101, 473x473, 200 epochs).

    python -m dmlcsr_jax.main --config=celebamask_hq --workdir=DIR \
        --config.data.root=PREPARED

`PREPARED` is what `python -m dmlcsr_jax.data.prepare --dataset=celebamask_hq` wrote. Meant for a
slice or node whose device count divides the batch of 28 (4 GPUs as in the paper; v5e-4).
Published score: mean F1 86.07 (mIoU 77.81). Add `--config.model.pretrained=FILE` for ImageNet
weights, as the paper does.
"""

from dmlcsr_jax.configs import default


def get_config():
    config = default.get_config()
    config.model.license = (
        "CelebAMask-HQ and what is made from it: for non-commercial research only."
    )
    config.data.source = "prepared"
    config.data.label_set = "celebamask_hq"
    return config
