"""What the labels of each data set mean: names, left and right, colours, merged groups.

Each set is declared here once; mirroring, metrics, panels and prediction read it from here.
"""

import colorsys
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dmlcsr_jax.errors import UserError

BACKGROUND = "background"


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """The meaning of a label map's values.

    Attributes:
      name: short name, as used in configurations.
      classes: class names; a class's position is its label.
      mirror_pairs: pairs of labels that exchange when the image is mirrored, each label in at most
        one pair.
      left_is: whose left the names mean: "subject" (image-right), "image" (image-left), or "none"
        for a set without left and right.
      palette: one RGB triple, 0 to 255, for each class.
      groups: merged groups for the set's published metric, group name to class names; a group is
        the union of its classes.
      ignore_label: label of pixels that no loss and no metric counts; not a class.

    Raises:
      UserError: on creation, where the parts contradict each other.
    """

    name: str
    classes: tuple[str, ...]
    mirror_pairs: tuple[tuple[int, int], ...]
    left_is: str
    palette: tuple[tuple[int, int, int], ...]
    groups: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, hash=False)
    ignore_label: int = 255

    def __post_init__(self):
        """Checks that the parts fit each other."""
        count = len(self.classes)
        paired = [label for pair in self.mirror_pairs for label in pair]
        unknown = {c for members in self.groups.values() for c in members} - set(self.classes)
        problem = None
        if not 2 <= count <= 255:
            problem = f"has {count} classes; there must be 2 to 255"
        elif len(set(self.classes)) != count:
            twice = next(c for c in self.classes if self.classes.count(c) > 1)
            problem = f"names the class {twice!r} twice; class names must differ"
        elif len(self.palette) != count:
            problem = f"has {len(self.palette)} colours for {count} classes; give one a class"
        elif len(set(paired)) != len(paired) or not set(paired) <= set(range(count)):
            problem = (
                f"has the mirror pairs {self.mirror_pairs}; each label may stand in one pair and "
                f"must be below {count}"
            )
        elif self.left_is not in ("subject", "image", "none"):
            problem = f"has left_is {self.left_is!r}; it must be subject, image or none"
        elif (self.left_is == "none") != (not self.mirror_pairs):
            problem = "must have left_is 'none' exactly where it has no mirror pairs"
        elif unknown:
            problem = f"has a group of the unknown class {min(unknown)!r}; use the classes' names"
        elif not count <= self.ignore_label <= 255:
            problem = f"has the ignore label {self.ignore_label}; it must be {count} to 255"
        if problem:
            raise UserError(f"label set {self.name!r} {problem}.")

    @property
    def num_classes(self) -> int:
        """Number of classes, the ignore label not among them."""
        return len(self.classes)

    @property
    def mean_f1_classes(self) -> tuple[int, ...]:
        """Labels over which the mean F1 is taken: all but the background."""
        return tuple(i for i, name in enumerate(self.classes) if name != BACKGROUND)

    def mirror_table(self) -> np.ndarray:
        """Returns uint8[256]: the label each label turns into when the image is mirrored."""
        table = np.arange(256, dtype=np.uint8)
        for a, b in self.mirror_pairs:
            table[a], table[b] = b, a
        return table

    def to_json(self) -> dict[str, Any]:
        """Returns the set as a JSON-serialisable dict, as checkpoints and prepared sets keep it."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "mirror_pairs": [list(pair) for pair in self.mirror_pairs],
            "left_is": self.left_is,
            "palette": [list(colour) for colour in self.palette],
            "groups": {name: list(members) for name, members in self.groups.items()},
            "ignore_label": self.ignore_label,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LabelSet":
        """Returns the set that `to_json` wrote.

        Raises:
          UserError: where a field is missing, unknown or impossible.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        if wrong := sorted(names ^ set(data)):
            raise UserError(
                f"a label set lacks or does not know {', '.join(wrong)}; its fields are "
                f"{', '.join(sorted(names))}."
            )
        return cls(
            name=data["name"],
            classes=tuple(data["classes"]),
            mirror_pairs=tuple((int(a), int(b)) for a, b in data["mirror_pairs"]),
            left_is=data["left_is"],
            palette=tuple((int(r), int(g), int(b)) for r, g, b in data["palette"]),
            groups={name: tuple(members) for name, members in data["groups"].items()},
            ignore_label=int(data["ignore_label"]),
        )


def get(name_or_file: str | pathlib.Path) -> LabelSet:
    """Returns a declared label set, or the one that a file describes.

    Args:
      name_or_file: a name in `LABEL_SETS`; or a `.json` file as `LabelSet.to_json` writes it; or a
        text file with one class name a line, label 0 first, empty lines and lines starting with `#`
        left out. The names of a text file that are those of a declared set give that set.
        Otherwise names that differ only in `left_`/`right_` or `l_`/`r_` become mirror pairs, left
        being the image's left unless a line says `# left_is: subject`.

    Raises:
      UserError: where neither a set nor a file has that name, or the file is not usable.
    """
    if str(name_or_file) in LABEL_SETS:
        return LABEL_SETS[str(name_or_file)]
    path = pathlib.Path(name_or_file)
    if not path.is_file():
        raise UserError(
            f"there is no label set and no label-name file {str(name_or_file)!r}; the label sets "
            f"are {', '.join(LABEL_SETS)}."
        )
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else None
    except ValueError as error:
        raise UserError(f"{path} is not a readable label-name file: {error}.") from error
    if path.suffix == ".json":
        if not isinstance(data, dict):
            raise UserError(f"{path} must hold one JSON object, a label set's fields.")
        return LabelSet.from_json(data)
    return _from_names(path, text)


def _from_names(path: pathlib.Path, text: str) -> LabelSet:
    """Returns the label set of a text file with one class name a line."""
    lines = [line.strip() for line in text.splitlines()]
    classes = tuple(line for line in lines if line and not line.startswith("#"))
    for declared in LABEL_SETS.values():
        if declared.classes == classes:
            return declared
    left_is = "image"
    for line in lines:
        key, _, value = line.lstrip("# ").partition(":")
        if line.startswith("#") and key.strip() == "left_is":
            left_is = value.strip()
    pairs = _pairs_by_name(classes)
    return LabelSet(
        name=path.stem,
        classes=classes,
        mirror_pairs=pairs,
        left_is=left_is if pairs else "none",
        palette=_generated_palette(len(classes)),
    )


def _pairs_by_name(classes: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Returns the labels of names that differ only in left and right, left first."""
    pairs = []
    for left, right in (("left_", "right_"), ("l_", "r_")):
        for label, name in enumerate(classes):
            partner = right + name[len(left) :]
            if name.startswith(left) and partner in classes:
                pairs.append((label, classes.index(partner)))
    return tuple(sorted(pairs))


def _generated_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Returns black and then `count - 1` colours, neighbours far apart in hue."""
    golden = (5**0.5 - 1) / 2
    colours = [(0, 0, 0)]
    for i in range(count - 1):
        value = (0.95, 0.75, 0.55)[i % 3]
        red, green, blue = colorsys.hsv_to_rgb(i * golden % 1, 0.6, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours[:count])


# One colour a part, shared by all sets; image-left parts are the lighter of a pair.
_COLOURS = {
    "background": (0, 0, 0),
    "skin": (241, 194, 158),
    "nose": (224, 140, 60),
    "brow_left": (160, 120, 80),
    "brow_right": (107, 70, 30),
    "eye_left": (124, 204, 240),
    "eye_right": (37, 116, 190),
    "ear_left": (250, 150, 210),
    "ear_right": (200, 84, 134),
    "upper_lip": (240, 70, 90),
    "inner_mouth": (255, 240, 210),
    "lower_lip": (168, 28, 56),
    "hair": (94, 62, 140),
    "neck": (201, 168, 118),
    "cloth": (72, 150, 96),
    "glasses": (60, 219, 211),
    "hat": (246, 204, 60),
    "earring": (186, 230, 80),
    "necklace": (255, 140, 0),
    "beard": (90, 110, 30),
    "facewear": (150, 150, 170),
}


def _colours(*parts: str) -> tuple[tuple[int, int, int], ...]:
    return tuple(_COLOURS[part] for part in parts)


_ELEVEN_PARTS = (
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
    palette=_colours(*_ELEVEN_PARTS),
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
    palette=_colours(*_ELEVEN_PARTS),
)

CELEBAMASK_HQ = LabelSet(
    name="celebamask_hq",
    classes=(
        BACKGROUND,
        "skin",
        "nose",
        "eye_g",
        "l_eye",
        "r_eye",
        "l_brow",
        "r_brow",
        "l_ear",
        "r_ear",
        "mouth",
        "u_lip",
        "l_lip",
        "hair",
        "hat",
        "ear_r",
        "neck_l",
        "neck",
        "cloth",
    ),
    mirror_pairs=((4, 5), (6, 7), (8, 9)),
    left_is="subject",
    palette=_colours(
        "background",
        "skin",
        "nose",
        "glasses",
        "eye_right",
        "eye_left",
        "brow_right",
        "brow_left",
        "ear_right",
        "ear_left",
        "inner_mouth",
        "upper_lip",
        "lower_lip",
        "hair",
        "hat",
        "earring",
        "necklace",
        "neck",
        "cloth",
    ),
)

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
    palette=_colours(
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

# What other sets are mapped to, to compare them; see `label_maps`.
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
        *_colours("ear_left", "ear_right", "neck", "cloth", "glasses", "hat"),
    ),
    groups=HELEN.groups,
)

LABEL_SETS: dict[str, LabelSet] = {
    label_set.name: label_set
    for label_set in (HELEN, LAPA, CELEBAMASK_HQ, FACE_SYNTHETICS, COMMON, COMMON_EXTENDED)
}
