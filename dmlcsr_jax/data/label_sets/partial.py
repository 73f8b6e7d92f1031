"""Sets whose labels are groups of CelebAMask-HQ's classes: examples of `LabelSet.means`.

What hangs on ear or neck is labelled through in some pictures and with the rest in others; it may
lie under both labels.
"""

from dmlcsr_jax.data.label_sets.celebamask_hq import CELEBAMASK_HQ
from dmlcsr_jax.data.label_sets.colours import colours
from dmlcsr_jax.data.label_sets.label_set import BACKGROUND, LabelSet

_EYES, _BROWS = ("l_eye", "r_eye"), ("l_brow", "r_brow")
_LIPS = ("mouth", "u_lip", "l_lip")
_JEWELLERY = ("ear_r", "neck_l")
_REST = (BACKGROUND, "hat", "cloth", *_JEWELLERY)
_SKIN = ("skin", "neck", "l_ear", "r_ear", "eye_g", *_JEWELLERY)

# LFW Part Labels (Kae et al., CVPR 2013).
LFW_PARTS = LabelSet(
    name="lfw_parts",
    classes=(BACKGROUND, "face", "hair"),
    mirror_pairs=(),
    left_is="none",
    palette=colours("background", "skin", "hair"),
    means_in=CELEBAMASK_HQ.name,
    means={
        BACKGROUND: _REST,
        "face": ("nose", *_EYES, *_BROWS, *_LIPS, *_SKIN),
        "hair": ("hair",),
    },
)

# Figaro1k (Svanera et al., ICIP 2016).
FIGARO = LabelSet(
    name="figaro",
    classes=(BACKGROUND, "hair"),
    mirror_pairs=(),
    left_is="none",
    palette=colours("background", "hair"),
    means_in=CELEBAMASK_HQ.name,
    means={
        BACKGROUND: tuple(name for name in CELEBAMASK_HQ.classes if name != "hair"),
        "hair": ("hair",),
    },
)

# FASSEG (Khan et al., 2015; Benini et al., 2019).
FASSEG = LabelSet(
    name="fasseg",
    classes=(BACKGROUND, "skin", "hair_and_brows", "eyes", "nose", "mouth"),
    mirror_pairs=(),
    left_is="none",
    palette=colours("background", "skin", "hair", "eye_left", "nose", "upper_lip"),
    means_in=CELEBAMASK_HQ.name,
    means={
        BACKGROUND: _REST,
        "skin": _SKIN,
        "hair_and_brows": ("hair", *_BROWS),
        "eyes": (*_EYES, "eye_g"),
        "nose": ("nose",),
        "mouth": _LIPS,
    },
)

# What 68 points (iBUG's order, Sagonas et al., ICCV Workshops 2013) say for sure, see `points`; the
# background is whatever is neither eye, brow nor mouth.
# Glasses hide eyes and brows that the points are put on.
IBUG_68 = LabelSet(
    name="ibug_68",
    classes=(BACKGROUND, "nose", "l_eye", "r_eye", "l_brow", "r_brow", "mouth"),
    mirror_pairs=((2, 3), (4, 5)),
    left_is="subject",
    palette=colours(
        "skin", "nose", "eye_right", "eye_left", "brow_right", "brow_left", "upper_lip"
    ),
    means_in=CELEBAMASK_HQ.name,
    means={
        BACKGROUND: tuple(c for c in CELEBAMASK_HQ.classes if c not in (*_EYES, *_BROWS, *_LIPS)),
        "nose": ("nose",),
        "l_eye": ("l_eye", "eye_g"),
        "r_eye": ("r_eye", "eye_g"),
        "l_brow": ("l_brow", "eye_g"),
        "r_brow": ("r_brow", "eye_g"),
        "mouth": _LIPS,
    },
)
