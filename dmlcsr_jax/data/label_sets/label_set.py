"""What the values of a label map mean: names, left and right, colours, merged groups."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dmlcsr_jax.data.label_sets.plain_names import plain_names
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
      means_in: name of the set in whose classes `means` says what these labels mean; empty: the
        classes speak for themselves.
      means: each class's name to the names of the classes of `means_in` that it may be.

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
    means_in: str = ""
    means: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, hash=False)

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
        elif unprintable := [n for n in (self.name, *self.classes) if not _is_one_line(n)]:
            problem = (
                f"has the name {unprintable[0]!r}; a name must be printable text on one line that "
                "does not start with # or end in spaces"
            )
        elif len(self.palette) != count:
            problem = f"has {len(self.palette)} colours for {count} classes; give one a class"
        elif len(set(paired)) != len(paired) or not set(paired) <= set(range(count)):
            problem = (
                f"has the mirror pairs {self.mirror_pairs}; each label may be in one pair and "
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
        elif bool(self.means_in) != bool(self.means):
            problem = "must have both means and means_in, or neither"
        elif self.means and set(self.means) != set(self.classes):
            problem = "must say of each class, and of nothing else, what it means: " + ", ".join(
                sorted(set(self.means) ^ set(self.classes))
            )
        elif not all(self.means.values()):
            problem = "has a class that means nothing; name the classes that it may be"
        if problem:
            raise UserError(f"label set {self.name!r} {problem}.")

    @property
    def num_classes(self) -> int:
        """Number of classes, the ignore label not among them."""
        return len(self.classes)

    @property
    def plain_names(self) -> tuple[str, ...]:
        """Each class in plain words."""
        return plain_names(self.classes)

    @property
    def titles(self) -> tuple[str, ...]:
        """Each class's name, its plain words behind it where they say more."""
        return tuple(
            name if plain == name.replace("_", " ") else f"{name} ({plain})"
            for name, plain in zip(self.classes, self.plain_names, strict=True)
        )

    @property
    def mean_f1_classes(self) -> tuple[int, ...]:
        """Labels over which the mean F1 is taken: all but the background."""
        return tuple(i for i, name in enumerate(self.classes) if name != BACKGROUND)

    @property
    def background(self) -> int:
        """Label of what is none of the parts; the ignore label where there is no such class."""
        names = self.classes
        return names.index(BACKGROUND) if BACKGROUND in names else self.ignore_label

    def shown_in(self, label: np.ndarray) -> list[int]:
        """Returns the labels of the classes, but the background, that a uint8 label map shows."""
        labels = np.flatnonzero(np.bincount(label.ravel(), minlength=256)[: self.num_classes])
        return [int(value) for value in labels if value != self.background]

    @property
    def convention(self) -> str:
        """One line saying what the labels mean and whose left they name."""
        left = {
            "subject": "left and right are the subject's (its left is image-right)",
            "image": "left and right are the image's (left is image-left)",
            "none": "no left and right",
        }[self.left_is]
        return f"{self.num_classes} classes of {self.name}; {left}"

    def mirror_table(self) -> np.ndarray:
        """Returns uint8[256]: the label each label turns into when the image is mirrored."""
        table = np.arange(256, dtype=np.uint8)
        for a, b in self.mirror_pairs:
            table[a], table[b] = b, a
        return table

    def to_json(self) -> dict[str, Any]:
        """Returns the set as a JSON-serialisable dict, as checkpoints and prepared sets keep it."""
        fields = {
            "name": self.name,
            "classes": list(self.classes),
            "mirror_pairs": [list(pair) for pair in self.mirror_pairs],
            "left_is": self.left_is,
            "palette": [list(colour) for colour in self.palette],
            "groups": {name: list(members) for name, members in self.groups.items()},
            "ignore_label": self.ignore_label,
        }
        if self.means:  # Files older than the fields lack them.
            fields |= {"means_in": self.means_in}
            fields |= {"means": {name: list(classes) for name, classes in self.means.items()}}
        return fields

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LabelSet":
        """Returns the set that `to_json` wrote.

        Raises:
          UserError: where a field is missing, unknown, of another type or impossible.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        if not isinstance(data, Mapping):
            raise UserError(f"a label set must be one object of {', '.join(sorted(names))}.")
        data = {"means_in": "", "means": {}} | dict(data)
        if wrong := sorted(names ^ set(data)):
            raise UserError(
                f"a label set lacks or does not know {', '.join(wrong)}; its fields are "
                f"{', '.join(sorted(names))}."
            )
        for name, (is_valid, meaning) in _JSON_TYPES.items():
            if not is_valid(data[name]):
                raise UserError(f"the label set's {name} must be {meaning}.")
        return cls(
            name=data["name"],
            classes=tuple(data["classes"]),
            mirror_pairs=tuple((a, b) for a, b in data["mirror_pairs"]),
            left_is=data["left_is"],
            palette=tuple((r, g, b) for r, g, b in data["palette"]),
            groups={name: tuple(members) for name, members in data["groups"].items()},
            ignore_label=data["ignore_label"],
            means_in=data["means_in"],
            means={name: tuple(classes) for name, classes in data["means"].items()},
        )


def _is_one_line(name: str) -> bool:
    """Returns whether a name is one in a file of a name a line, in a table and on a terminal."""
    return name.isprintable() and name == name.strip() and name[:1] not in ("", "#")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_lists_of_names(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_list(names, _is_text) for names in value.values())


def _is_byte(value: Any) -> bool:
    return _is_integer(value) and 0 <= value <= 255


def _is_list(value: Any, is_valid: Callable[[Any], bool], length: int | None = None) -> bool:
    return (
        isinstance(value, list)
        and (length is None or len(value) == length)
        and all(map(is_valid, value))
    )


# What each field must be in JSON; `__post_init__` checks what the values mean.
_JSON_TYPES = {
    "name": (_is_text, "text"),
    "classes": (lambda names: _is_list(names, _is_text), "a list of names"),
    "mirror_pairs": (
        lambda pairs: _is_list(pairs, lambda pair: _is_list(pair, _is_integer, 2)),
        "a list of pairs of whole numbers",
    ),
    "left_is": (_is_text, "text"),
    "palette": (
        lambda colours: _is_list(colours, lambda colour: _is_list(colour, _is_byte, 3)),
        "a list of three whole numbers from 0 to 255 for each class",
    ),
    "groups": (_is_lists_of_names, "an object of lists of names"),
    "ignore_label": (_is_integer, "a whole number"),
    "means_in": (lambda value: isinstance(value, str), "text"),
    "means": (_is_lists_of_names, "an object of lists of names"),
}
