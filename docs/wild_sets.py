"""The field's sets as `docs/measure_wild.py` judges by them: who is judged, what is counted."""

import collections
import hashlib
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dmlcsr_jax.data import label_maps
from dmlcsr_jax.data.decode import check_shapes, decode_label, read_bytes
from dmlcsr_jax.data.label_sets import CELEBAMASK_HQ, FACE_SYNTHETICS
from dmlcsr_jax.data.points import read_points
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation.metrics import ratio, summarize
from dmlcsr_jax.predict.photographs import read_photograph
from docs import wild_labels
from docs.measure_model import Tally
from docs.wild_labels import Groups

ORIGINS = ("white", "Black", "Asian", "Indian", "other origin")
# The development sample has as many faces of each of these ages.
AGES = {"under 10": 10, "10 to 19": 20, "20 to 39": 40, "40 to 64": 65, "65 and over": 1000}

# A part of fewer pixels is there, but hardly to be seen.
SEEN = 20

Figures = dict[str, float]


def is_judged(person: str) -> bool:
    """Returns whether a person is kept for judging, one in seven; never trained on."""
    return int(hashlib.sha256(person.encode()).hexdigest(), 16) % 7 == 0


def before_number(stem: str) -> str:
    """Returns `Norman_Jewison` of `Norman_Jewison_0002`."""
    return re.sub(r"_\d+$", "", stem)


def fasseg_turn(stem: str) -> tuple[int, str]:
    """Returns degrees and person, -75 and "3" of `-75_personne03141+0-75`.

    Raises:
      UserError: where the name has another form.
    """
    match = re.match(r"([+-]?\d+)_personne(\d\d)", stem)
    if match is None:
        raise UserError(f"{stem!r} names no turn and person (-75_personne03...); rename it.")
    return int(match[1]), str(int(match[2]))


def utkface_groups(stem: str) -> tuple[str, str]:
    """Returns origin and age of `AGE_GENDER_ORIGIN_DATE`, as `ORIGINS` and `AGES` name them.

    Raises:
      UserError: where the name has another form.
    """
    match = re.match(r"(\d{1,3})_[01]_([0-4])_\d+", stem)
    if match is None:
        raise UserError(f"{stem!r} is not AGE_GENDER_ORIGIN_DATE; rename it.")
    age = next(name for name, below in AGES.items() if int(match[1]) < below)
    return ORIGINS[int(match[2])], age


class LabelledSet:
    """Photographs whose labels are groups of classes: F1 of each group."""

    def __init__(self, groups: Groups, person: Callable[[str], str], row: Callable[[str], str]):
        """Takes what says who a photograph shows and which further row it counts in, or ""."""
        self._groups, self.person, self._row = groups, person, row
        self._tallies = collections.defaultdict(lambda: Tally(groups.label_set))

    def files(self, root: pathlib.Path) -> list[pathlib.Path]:
        """Lists the photographs."""
        return sorted((root / "images").iterdir())

    def read(self, file: pathlib.Path) -> tuple[np.ndarray, Any]:
        """Returns a photograph and what is known of it."""
        image, label_file = read_photograph(file), file.parents[1] / "labels" / f"{file.stem}.png"
        label = decode_label(read_bytes(label_file), str(label_file), self._groups.label_set)
        check_shapes(image, label, str(file), str(label_file))
        return image, label

    def add(self, file: pathlib.Path, label: np.ndarray, prediction: np.ndarray) -> None:
        """Counts a photograph; `prediction` is uint8 `[H, W]` of CelebAMask-HQ's classes."""
        judged = self._groups.judged(prediction, label)
        for row in {"", self._row(file.stem)}:
            self._tallies[row].add(label, judged)

    def figures(self) -> Figures:
        """Returns the figures by name, parts of 1."""
        found = {}
        for row, tally in self._tallies.items():
            summary = summarize(tally.confusion, self._groups.label_set)
            scores = {"mean": summary["mean_f1"]} | {
                name: scores["f1"] for name, scores in summary["classes"].items()
            }
            found |= {f"{name} F1{row}": score for name, score in scores.items()}
        return found


class PointSet:
    """Photographs of one face each with 68 points: parts not found, F1 against polygons."""

    person = staticmethod(before_number)

    def __init__(self):
        self._tally = Tally(wild_labels.POINTS.label_set)
        self._areas = {"eyes": [], "mouth": []}
        self._scores = {"eyes": [], "mouth": []}
        self._brows = []

    def files(self, root: pathlib.Path) -> list[pathlib.Path]:
        """As `LabelledSet.files`."""
        self._points = read_points(root / "points.csv")
        return sorted((root / "images").iterdir())

    def read(self, file: pathlib.Path) -> tuple[np.ndarray, Any]:
        """As `LabelledSet.read`; the points."""
        if file.stem not in self._points:
            raise UserError(f"points.csv has no points of {file}; take the photograph away.")
        return read_photograph(file), self._points[file.stem]

    def add(self, file: pathlib.Path, points: np.ndarray, prediction: np.ndarray) -> None:
        """As `LabelledSet.add`."""
        groups = wild_labels.POINTS
        label = wild_labels.draw_points(points, prediction.shape)
        judged, of_one = groups.judged(prediction, label), Tally(groups.label_set)
        for tally in (self._tally, of_one):
            tally.add(label, judged)
        classes = summarize(of_one.confusion, groups.label_set)["classes"]
        for name, areas in self._areas.items():
            areas.append(classes[name]["predicted_pixels"])
            # Points that all lie outside the photograph draw nothing.
            if classes[name]["truth_pixels"]:
                self._scores[name].append(classes[name]["f1"])
        under = wild_labels.labels_at(points[wild_labels.BROW_POINTS], prediction)
        brows = [CELEBAMASK_HQ.classes.index(name) for name in wild_labels.BROWS]
        self._brows.extend(np.isin(under, brows))

    def figures(self) -> Figures:
        """As `LabelledSet.figures`."""
        classes = summarize(self._tally.confusion, wild_labels.POINTS.label_set)["classes"]
        found = {}
        for name, areas in self._areas.items():
            found |= {
                f"{name} not found": _mean([area == 0 for area in areas]),
                f"{name} below {SEEN} pixels": _mean([area < SEEN for area in areas]),
                f"{name} F1": classes[name]["f1"],
                f"{name} F1, mean over images": _mean(self._scores[name]),
            }
        return found | {"brow points on a brow": _mean(self._brows)}


class UnlabelledFaces:
    """Crops of one face each: share in which the label map has all parts, by origin and age."""

    person = staticmethod(str)

    def __init__(self):
        groups = ("all parts", *ORIGINS, *AGES)
        self._complete = {name: [] for name in groups}
        self._seen = {f"{name}, {SEEN} pixels": [] for name in groups}
        self._found = collections.defaultdict(list)

    def files(self, root: pathlib.Path) -> list[pathlib.Path]:
        """As `LabelledSet.files`."""
        return sorted((root / "images").iterdir())

    def read(self, file: pathlib.Path) -> tuple[np.ndarray, Any]:
        """As `LabelledSet.read`; origin and age."""
        return read_photograph(file), utkface_groups(file.stem)

    def add(self, file: pathlib.Path, groups: tuple[str, str], prediction: np.ndarray) -> None:
        """As `LabelledSet.add`."""
        found = found_parts(prediction)
        is_seen = all(found_parts(prediction, SEEN).values())
        for part, is_found in found.items():
            self._found[part].append(is_found)
        for group in ("all parts", *groups):
            self._complete[group].append(all(found.values()))
            self._seen[f"{group}, {SEEN} pixels"].append(is_seen)

    def figures(self) -> Figures:
        """As `LabelledSet.figures`."""
        counted = self._complete | self._found | self._seen
        return {name: _mean(found) for name, found in counted.items()}


def found_parts(prediction: np.ndarray, fewest: int = 1) -> dict[str, bool]:
    """Returns whether a label map of CelebAMask-HQ's classes has the parts of a face.

    Args:
      prediction: uint8 `[H, W]`.
      fewest: so many pixels of a class make a part.
    """
    areas = np.bincount(prediction.ravel(), minlength=CELEBAMASK_HQ.num_classes)
    names = CELEBAMASK_HQ.classes
    shown = {name for name, area in zip(names, areas, strict=True) if area >= fewest}
    return {
        "both eyes or glasses": {"l_eye", "r_eye"} <= shown or "eye_g" in shown,
        "both brows": {"l_brow", "r_brow"} <= shown,
        "nose": "nose" in shown,
        "both lips": {"u_lip", "l_lip"} <= shown,
    }


class SyntheticSet:
    """FaceSynthetics, in the classes that both label sets have: F1 of each."""

    person = staticmethod(str)

    def __init__(self):
        self._label_set = label_maps.shared_label_set(FACE_SYNTHETICS, CELEBAMASK_HQ)
        self._truth = label_maps.label_map(FACE_SYNTHETICS, self._label_set).labels
        self._ours = label_maps.label_map(CELEBAMASK_HQ, self._label_set).predictions
        self._tally = Tally(self._label_set)

    def files(self, root: pathlib.Path) -> list[pathlib.Path]:
        """As `LabelledSet.files`."""
        return [
            file.with_name(file.name.replace("_seg", "")) for file in sorted(root.glob("*_seg.png"))
        ]

    def read(self, file: pathlib.Path) -> tuple[np.ndarray, Any]:
        """As `LabelledSet.read`; the label map in the set's own classes."""
        label_file = file.with_name(f"{file.stem}_seg.png")
        label = decode_label(read_bytes(label_file), str(label_file), FACE_SYNTHETICS)
        return read_photograph(file), label

    def add(self, file: pathlib.Path, label: np.ndarray, prediction: np.ndarray) -> None:
        """As `LabelledSet.add`."""
        self._tally.add(self._truth[label], self._ours[prediction])

    def figures(self) -> Figures:
        """As `LabelledSet.figures`."""
        summary = summarize(self._tally.confusion, self._label_set)
        classes = {f"{name} F1": scores["f1"] for name, scores in summary["classes"].items()}
        return {"mean F1": summary["mean_f1"]} | classes


def _mean(values: Sequence[float]) -> float:
    return ratio(sum(values), len(values))


def sets() -> dict[str, Any]:
    """Returns the sets by their folders' names, with nothing counted yet."""

    def turn(stem: str) -> str:
        return " at +-90 degrees" if abs(fasseg_turn(stem)[0]) == 90 else ""

    def no_row(stem: str) -> str:
        return ""

    return {
        "lfw_parts": LabelledSet(wild_labels.LFW_PARTS, before_number, no_row),
        "figaro": LabelledSet(wild_labels.FIGARO, str, no_row),
        "fasseg": LabelledSet(wild_labels.FASSEG, lambda stem: fasseg_turn(stem)[1], turn),
        "youtube": PointSet(),
        "utkface": UnlabelledFaces(),
        "face_synthetics_100": SyntheticSet(),
    }
