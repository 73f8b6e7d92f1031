"""The classes of a model, as a table to read."""

import tabulate

from dmlcsr_jax.data.label_sets import LabelSet

_LEFT_OF = {"subject": "the subject's left or right", "image": "the image's left or right"}


def class_table(label_set: LabelSet) -> str:
    """Returns a line a class: index, name, colour, and whose left or right its name means.

    Args:
      label_set: the classes.
    """
    paired = {label for pair in label_set.mirror_pairs for label in pair}
    rows = [
        (
            index,
            name,
            f"#{bytes(label_set.palette[index]).hex()}",
            _LEFT_OF[label_set.left_is] if index in paired else "",
        )
        for index, name in enumerate(label_set.classes)
    ]
    table = tabulate.tabulate(rows, ["index", "name", "colour", "side"], disable_numparse=True)
    return f"{table}\n{label_set.convention}"
