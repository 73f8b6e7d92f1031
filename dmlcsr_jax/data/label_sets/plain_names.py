"""What classes are in plain words, where their names are short."""

from collections.abc import Sequence

# CelebAMask-HQ's, in which a letter means left, lower, earring or glasses by what it stands with.
_PLAIN = {
    "eye_g": "glasses",
    "l_eye": "left eye",
    "r_eye": "right eye",
    "l_brow": "left eyebrow",
    "r_brow": "right eyebrow",
    "l_ear": "left ear",
    "r_ear": "right ear",
    "u_lip": "upper lip",
    "l_lip": "lower lip",
    "ear_r": "earring",
    "neck_l": "necklace",
    "cloth": "clothes",
}
_LIPS = {"u_lip", "l_lip"}


def plain_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns each class in plain words: those that are known, or its name's."""
    # With its lips, a mouth is something else.
    known = _PLAIN | ({"mouth": "inner mouth"} if set(classes) >= _LIPS else {})
    return tuple(known.get(name, name.replace("_", " ")) for name in classes)
