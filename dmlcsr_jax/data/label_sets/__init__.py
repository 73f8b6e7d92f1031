"""What the labels of each data set mean; mirroring, metrics, panels and prediction ask here.

`label_set.LabelSet` is the class, each set is declared in a file of its own, `get` reads one by its
name or from a file.
"""

from dmlcsr_jax.data.label_sets.celebamask_hq import CELEBAMASK_HQ
from dmlcsr_jax.data.label_sets.common import COMMON, COMMON_EXTENDED
from dmlcsr_jax.data.label_sets.face_synthetics import FACE_SYNTHETICS
from dmlcsr_jax.data.label_sets.helen import HELEN
from dmlcsr_jax.data.label_sets.label_set import BACKGROUND, LabelSet
from dmlcsr_jax.data.label_sets.lapa import LAPA
from dmlcsr_jax.data.label_sets.partial import FASSEG, FIGARO, IBUG_68, LFW_PARTS
from dmlcsr_jax.data.label_sets.reading import LABEL_SETS, NAMES_FILE, get, in_declared_colours

__all__ = [
    "BACKGROUND",
    "CELEBAMASK_HQ",
    "COMMON",
    "COMMON_EXTENDED",
    "FACE_SYNTHETICS",
    "FASSEG",
    "FIGARO",
    "HELEN",
    "IBUG_68",
    "LABEL_SETS",
    "LAPA",
    "LFW_PARTS",
    "NAMES_FILE",
    "LabelSet",
    "get",
    "in_declared_colours",
]
