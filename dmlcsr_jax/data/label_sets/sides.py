"""Left and right in the names of classes, in the common spellings."""

import re
from collections.abc import Sequence

from dmlcsr_jax.errors import UserError

_OTHER = {"left": "right", "right": "left"}
# In place of a side that is a word, or begins one.
_SIDE = "<side>"
# What follows an l or r without a gap, as in "leye" or LaPa's "lb": "lip" and "rip" are no pair.
_AFTER_A_LETTER = ("eye", "brow", "eyebrow", "ear", "cheek", "iris", "pupil", "b", "e")


def _readings(name: str) -> dict[tuple[str, ...], str]:
    """Returns a side that a name may say by the rest of the name, surest readings first."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = re.split(r"[\W_]+", spaced.casefold())
    sure, ends, letters = {}, {}, {}
    for i, word in enumerate(words):
        before, after = words[:i], words[i + 1 :]
        for side in _OTHER:
            if word == side:
                sure[*before, _SIDE, *after] = side
            elif word.startswith(side):
                sure[*before, _SIDE, word.removeprefix(side), *after] = side
            elif word.endswith(side):
                ends[*before, word.removesuffix(side), "<end>", *after] = side
            elif word == side[0]:
                letters[*before, "<letter>", *after] = side
            elif word[:1] == side[0] and word[1:] in _AFTER_A_LETTER:
                letters[*before, "<letter>", word[1:], *after] = side
    return sure | ends | letters


def left_of(first: str, second: str) -> str | None:
    """Returns which of two names is the left-named one; None where they are no left and right."""
    others = _readings(second)
    for rest, side in _readings(first).items():
        if others.get(rest) == _OTHER[side]:
            return first if side == "left" else second
    return None


def pairs_by_name(classes: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Returns the labels of names that differ only in left and right, left first.

    Sides are "left" and "right" or "l" and "r", before, within or after the rest of the name,
    whatever the case and what separates the words.

    Raises:
      UserError: where a name begins with left or right, or has it as a word, and no other is its
        counterpart. An "l" may stand for "lower", and "bright" ends in "right".
    """
    labels = range(len(classes))
    pairs = {}
    for first in labels:
        for second in labels[first + 1 :]:
            if pairs.keys().isdisjoint((first, second)) and (
                left := left_of(classes[first], classes[second])
            ):
                pair = (first, second) if left == classes[first] else (second, first)
                pairs[first] = pairs[second] = pair
    for label, name in enumerate(classes):
        for rest, side in _readings(name).items():
            if label not in pairs and _SIDE in rest:
                raise UserError(
                    f"{name!r} says {side} and no other class is its {_OTHER[side]}; name both "
                    "alike, or say `# left_is: none` where no class is to be mirrored into another."
                )
    return tuple(sorted(set(pairs.values())))
