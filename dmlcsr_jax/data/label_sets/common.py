"""What other sets are mapped to, to compare them; see `data.label_maps`."""

from dmlcsr_jax.data.label_sets.colours import colours
from dmlcsr_jax.data.label_sets.helen import HELEN
from dmlcsr_jax.data.label_sets.label_set import LabelSet
from dmlcsr_jax.data.label_sets.lapa import LAPA

COMMON = LabelSet(
    name="common",
    classes=LAPA.classes,
    mirror_pairs=LAPA.mirror_pairs,
    left_is="image",
    palette=LAPA.palette,
    groups=HELEN.groups,
)

COMMON_EXTENDED = LabelSet(
    name="common_extended",
    classes=(*COMMON.classes, "left_ear", "right_ear", "neck", "cloth", "glasses", "hat"),
    mirror_pairs=(*COMMON.mirror_pairs, (11, 12)),
    left_is="image",
    palette=(
        *COMMON.palette,
        *colours("ear_left", "ear_right", "neck", "cloth", "glasses", "hat"),
    ),
    groups=HELEN.groups,
)
