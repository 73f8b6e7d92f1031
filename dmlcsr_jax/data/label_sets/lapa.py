"""LaPa's eleven labels."""

from dmlcsr_jax.data.label_sets.colours import ELEVEN_PARTS, colours
from dmlcsr_jax.data.label_sets.label_set import BACKGROUND, LabelSet

LAPA = LabelSet(
    name="lapa",
    classes=(
        BACKGROUND,
        "skin",
        "left_brow",
        "right_brow",
        "left_eye",
        "right_eye",
        "nose",
        "upper_lip",
        "inner_mouth",
        "lower_lip",
        "hair",
    ),
    mirror_pairs=((2, 3), (4, 5)),
    left_is="image",
    palette=colours(*ELEVEN_PARTS),
)
