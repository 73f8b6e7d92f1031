"""Colours of the parts of a face, the same in every label set."""

import colorsys

# One colour a part, shared by all sets; image-left parts are the lighter of a pair. Skin, neck and
# brows are of no colour that skin has: laid over a face, they show.
_COLOURS = {
    "background": (0, 0, 0),
    "skin": (140, 215, 150),
    "nose": (235, 130, 50),
    "brow_left": (240, 80, 230),
    "brow_right": (160, 20, 160),
    "eye_left": (110, 205, 255),
    "eye_right": (20, 80, 220),
    "ear_left": (250, 150, 210),
    "ear_right": (200, 84, 134),
    "upper_lip": (240, 70, 90),
    "inner_mouth": (255, 240, 210),
    "lower_lip": (168, 28, 56),
    "hair": (94, 62, 140),
    "neck": (70, 170, 175),
    "cloth": (150, 110, 70),
    "glasses": (0, 90, 90),
    "hat": (246, 204, 60),
    "earring": (186, 230, 80),
    "necklace": (255, 90, 0),
    "beard": (90, 110, 30),
    "facewear": (150, 150, 170),
}

# Helen's and LaPa's, in the order of their labels.
ELEVEN_PARTS = (
    "background",
    "skin",
    "brow_left",
    "brow_right",
    "eye_left",
    "eye_right",
    "nose",
    "upper_lip",
    "inner_mouth",
    "lower_lip",
    "hair",
)


def colours(*parts: str) -> tuple[tuple[int, int, int], ...]:
    """Returns the palette of a set of these parts, in the order of their labels."""
    return tuple(_COLOURS[part] for part in parts)


def generated_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Returns black and then `count - 1` colours, neighbours far apart in hue."""
    golden = (5**0.5 - 1) / 2
    palette = [(0, 0, 0)]
    for i in range(count - 1):
        value = (0.95, 0.75, 0.55)[i % 3]
        red, green, blue = colorsys.hsv_to_rgb(i * golden % 1, 0.6, value)
        palette.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(palette[:count])
