"""Faces of any size and turn, by a detector that knows upright ones of a limited size.

- The photograph is looked at reduced, to 256 pixels of its longer side, then to 640, 2048, and as
  it is, in tiles; what has more than 24 megapixels is reduced to them. A face of 48 pixels of a
  look ends the search: finer looks would add only faces of less than about half of it. The first
  look demands a score of 0.88 for that.
- Each find that is not sure is looked at again by itself, in eight turns 45 degrees apart, and the
  surest of them decides its box, landmarks and roll. Where none reaches 0.8, it is no face.
- Where a look of at most 1024 pixels finds nothing, or several faces of which no more than half are
  level, the complete look is turned as well: others may lie as they do.

docs/results.md has the figures.
"""

import concurrent.futures
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dmlcsr_jax.predict import search_views
from dmlcsr_jax.predict.libfacedetection_private import Detection
from dmlcsr_jax.predict.search_views import View

# Of the looks' longer sides, pixels; the last look is the photograph as it is.
_SIDES = (256, 640, 2048)
# A look that would be less than this times finer is left out.
_FINER = 1.25
_MOST_PIXELS = 24_000_000
# Of a look that is also turned, and in which faces of every size count.
_SMALL_LOOK = 1024
# Larger faces were found in the look before: in finer ones the detector sees faces in their parts.
_LARGEST_FACE = 160
# Of a face in a look that ends the search, pixels.
_ENOUGH = 48
_TURNS = tuple(range(45, 360, 45))
# A face turned by less is level, radians.
_LEVEL = math.radians(40)
# Of faces that end the search at the first look; later ones end it with every face.
_ENOUGH_SCORE = 0.88
# What is worth a close look; what is, of turned looks; what is a face; what is surely about level:
# of 312 photographs turned by every 15 degrees none that scored 0.91 was turned further than 45.
_LEAST_DOUBT, _LEAST_TURNED, _LEAST_SCORE, _CERTAIN_SCORE = 0.3, 0.6, 0.8, 0.91
# Doubtful finds of one look that are looked at closely, the surest first.
_MOST_DOUBTS = 100
# Two finds are one face where they share this much of the smaller one.
_SAME_FACE = 0.5
# Eyes closer than this share of the box are those of a face seen from the side: they tell no roll.
_LEAST_EYE_DISTANCE = 0.2
_THREADS = 2


class Found(NamedTuple):
    """A face in a photograph, in its pixels from the top left corner.

    Attributes:
      box: left, top, right, bottom, upright; of a turned face, of the same middle and sides.
      score: 0 to 1.
      landmarks: float `[5, 2]`, x and y: the subject's right eye, left eye, nose, right and left
        mouth corner; None where the detector gives none.
      roll: how far the face is turned clockwise, radians, -pi to pi.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray | None
    roll: float


class FaceSearch:
    """Looks for faces in several views of a photograph.

    Args:
      detect: finds the upright faces in a picture, uint8 `[H, W, 3]` RGB; called in two threads.
    """

    def __init__(self, detect: Callable[[np.ndarray], Iterable[Detection]]):
        self._detect = detect

    def __call__(self, image: np.ndarray) -> list[Found]:
        """Returns the faces, the largest first.

        Args:
          image: uint8 `[H, W, 3]` RGB.
        """
        found: list[Found] = []
        enough_score = _ENOUGH_SCORE
        for scale in _scales(image.shape[:2]):
            found = self._look(image, scale, found)
            sides = [_side(one.box) * scale for one in found if one.score >= enough_score]
            if max(sides, default=0) >= _ENOUGH:
                break
            enough_score = _LEAST_SCORE
        return sorted(found, key=lambda one: -_area(one.box))

    def _look(self, image: np.ndarray, scale: float, known: list[Found]) -> list[Found]:
        """Returns the faces known and those that a look at one scale adds."""
        reduced = search_views.reduced(image, scale)
        is_small = max(reduced.image.shape[:2]) <= _SMALL_LOOK
        largest = math.inf if is_small else _LARGEST_FACE / scale
        found = self._added(image, known, search_views.tiles(reduced), _LEAST_DOUBT, largest)
        level = [one for one in found if abs(one.roll) < _LEVEL]
        # One face was looked at in every turn already; several may not be all there are.
        if is_small and len(found) != 1 and 2 * len(level) <= len(found):
            turned = [search_views.turned(reduced, turn) for turn in _TURNS]
            found = self._added(image, found, turned, _LEAST_TURNED, largest)
        return found

    def _added(
        self,
        image: np.ndarray,
        known: list[Found],
        views: Sequence[View],
        least: float,
        largest: float,
    ) -> list[Found]:
        """Returns the faces known and those that views add."""
        finds = [
            one
            for one in _distinct(self._in_views(views, least, largest))
            if not any(_is_same(one, other) and other.score >= one.score for other in known)
        ]
        doubts = [one for one in finds if one.score < _CERTAIN_SCORE][:_MOST_DOUBTS]
        sure = [one for one in finds if one.score >= _CERTAIN_SCORE]
        return _distinct(known + sure + self._in_close_views(image, doubts))

    def _in_close_views(self, image: np.ndarray, doubts: list[Found]) -> list[Found]:
        """Returns those of doubtful finds that are faces, each as its surest turn shows it."""
        faces = []
        for doubt in doubts:
            view = search_views.close(image, doubt.box)
            finds = self._in_views([view], _LEAST_SCORE)
            if max((one.score for one in finds), default=0) < _CERTAIN_SCORE:
                turned = [search_views.turned_inside(view, turn) for turn in _TURNS]
                finds += self._in_views(turned, _LEAST_SCORE)
            finds = [one for one in finds if _is_same(one, doubt)]
            if finds:
                faces.append(max(finds, key=lambda one: one.score))
        return faces

    def _in_views(self, views: Sequence[View], least: float, largest: float = math.inf):
        """Returns what is found in views: its least score and largest side, photograph's pixels."""
        if len(views) == 1:
            detections = [self._detect(views[0].image)]
        else:
            with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
                detections = list(threads.map(lambda view: self._detect(view.image), views))
        return [
            one
            for view, seen in zip(views, detections, strict=True)
            for one in (_in_photograph(view, *detection) for detection in seen)
            if one.score >= least and 0 < _side(one.box) <= largest
        ]


def _scales(hw: tuple[int, int]) -> list[float]:
    """Returns the scales of the looks at a photograph, the coarsest first."""
    longer = max(hw)
    last = min(1.0, math.sqrt(_MOST_PIXELS / (hw[0] * hw[1])))
    scales = [side / longer for side in _SIDES]
    return [scale for scale in scales if scale * _FINER < last] + [last]


def _in_photograph(view: View, box, score: float, landmarks: np.ndarray | None) -> Found:
    """Returns what a detector finds in a view, in the photograph's pixels."""
    back = np.linalg.inv(view.matrix[:, :2])
    scale = math.sqrt(abs(np.linalg.det(view.matrix[:, :2])))
    half = np.subtract(box[2:], box[:2]) / (2 * scale)
    centre = back @ (np.add(box[:2], box[2:]) / 2 - view.matrix[:, 2])
    edges = tuple(np.concatenate([centre - half, centre + half]).tolist())
    turn = -math.radians(view.turn)
    if landmarks is not None:
        landmarks = (landmarks - view.matrix[:, 2]) @ back.T
        x, y = landmarks[1] - landmarks[0]
        if math.hypot(x, y) >= _LEAST_EYE_DISTANCE * _side(edges):
            turn = math.atan2(y, x)
    return Found(edges, score, landmarks, math.remainder(turn, math.tau))


def _side(box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _area(box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _distinct(found: list[Found]) -> list[Found]:
    """Returns the surest find of each face, the surest first."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one.score):
        if not any(_is_same(one, other) for other in kept):
            kept.append(one)
    return kept


def _is_same(one: Found, other: Found) -> bool:
    """Returns whether two finds share so much of the smaller one that they are one face."""
    a, b = one.box, other.box
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) >= _SAME_FACE * min(_area(a), _area(b))
