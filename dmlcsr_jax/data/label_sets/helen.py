"""Helen's eleven labels and its published groups."""

from dmlcsr_jax.data.label_sets.colours import ELEVEN_PARTS, colours
from dmlcsr_jax.data.label_sets.label_set import BACKGROUND, LabelSet

HELEN = LabelSet(
    name="helen",
    classes=(
        BACKGROUND,
        "face_skin",
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
    # The published table (Smith et al., CVPR 2013): merged parts, and all of them as "overall".
    groups={
        "eyes": ("left_eye", "right_eye"),
        "brows": ("left_brow", "right_brow"),
        "mouth": ("upper_lip", "inner_mouth", "lower_lip"),
        "overall": (
            "left_eye",
            "right_eye",
            "left_brow",
            "right_brow",
            "nose",
            "upper_lip",
            "inner_mouth",
            "lower_lip",
        ),
    },
)
