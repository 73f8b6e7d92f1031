"""What a label set's labels mean, in one line."""

from dmlcsr_jax.data.label_sets import LabelSet


def convention(label_set: LabelSet) -> str:
    """Returns one line saying what the labels mean and whose left they name."""
    left = {
        "subject": "left and right are the subject's (its left is image-right)",
        "image": "left and right are the image's (left is image-left)",
        "none": "no left and right",
    }[label_set.left_is]
    return f"{label_set.num_classes} classes of {label_set.name}; {left}"
