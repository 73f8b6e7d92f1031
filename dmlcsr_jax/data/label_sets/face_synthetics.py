"""FaceSynthetics' 19 labels."""

from dmlcsr_jax.data.label_sets.colours import colours
from dmlcsr_jax.data.label_sets.label_set import BACKGROUND, LabelSet

FACE_SYNTHETICS = LabelSet(
    name="face_synthetics",
    classes=(
        BACKGROUND,
        "skin",
        "nose",
        "right_eye",
        "left_eye",
        "right_brow",
        "left_brow",
        "right_ear",
        "left_ear",
        "mouth_interior",
        "top_lip",
        "bottom_lip",
        "neck",
        "hair",
        "beard",
        "clothing",
        "glasses",
        "headwear",
        "facewear",
    ),
    mirror_pairs=((3, 4), (5, 6), (7, 8)),
    # The set's "right" eye lies image-right (centroids over its sample: 0.57 of the width).
    left_is="image",
    palette=colours(
        "background",
        "skin",
        "nose",
        "eye_right",
        "eye_left",
        "brow_right",
        "brow_left",
        "ear_right",
        "ear_left",
        "inner_mouth",
        "upper_lip",
        "lower_lip",
        "neck",
        "hair",
        "beard",
        "cloth",
        "glasses",
        "hat",
        "facewear",
    ),
)
