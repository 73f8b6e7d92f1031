"""What holds the frames of a video steady: the faces' boxes, and what the network says of them.

A detector's boxes and a network's scores tremble with the noise of a picture that does not change.
Both are held with play, as a worn gear is: what moves less than the noise does not move at all, and
what moves more is followed at once, never further behind than the play. Scores are averaged before,
where the picture is still; where it changes, what was before is forgotten.
"""

import collections
import dataclasses
import itertools
import math

import cv2
import numpy as np

from dmlcsr_jax.data import unwarp
from dmlcsr_jax.predict import views
from dmlcsr_jax.predict.face_parser import Photograph
from dmlcsr_jax.predict.faces import Face
from dmlcsr_jax.predict.views import View

__all__ = ["Steady"]

# Play of a box's middle, in its longer side; of the logarithms of its sides; of its roll.
_MIDDLE_PLAY = 0.045
_SIDES_PLAY = 0.08
# More than the least roll that counts, so that a face near that one does not go to and fro.
_ROLL_PLAY = math.radians(18)
# Two boxes of following frames are one face where their intersection is so much of their union.
_SAME_FACE = 0.3
# Frames in which a face may be missed.
_MOST_MISSED = 2
# Correlation of small pictures, below which a face is gone, and a frame is of another scene.
_SAME_PATCH = 0.7
_SAME_SCENE = 0.5
# Small pictures whose levels differ less on average are alike, however flat they are.
_SAME_LEVEL = 6.0
_THUMBNAIL = 16
# Play of log-probabilities, where the picture is still.
_SCORE_PLAY = 1.25
# Frames that are averaged; fewer where the view moves, as interpolation blurs each time.
_MOST_FRAMES = 10.0
_MOST_FRAMES_MOVED = 3.0
# Cells about one, along a side, in which the picture is compared.
_NEAR = 5
# Squared difference, in the noise's, up to which it is noise, and from which it is a change.
_NOISE, _CHANGE = 3.0, 8.0
# What the encoding of videos changes at least: variance of a grid point, levels.
_LEAST_VARIANCE = 2.0
# Its result has the variance of a picture's noise, and little of what is in it (Immerkaer 1996).
_NOISE_FILTER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6


@dataclasses.dataclass
class _Track:
    """A face that is followed: as it is shown, as it was last found, and a small picture of it."""

    identity: int
    face: Face
    found: Face
    patch: np.ndarray
    missed: int = 0


@dataclasses.dataclass
class _Past:
    """What a view has shown so far.

    Attributes:
      grid: float64 `[2, 3]`, photograph pixel to grid point.
      edge: as the view's.
      mean: float32 `[h, h, C]`, the averaged scores.
      held: float32 `[h, h, C]`, the same with play.
      picture: float32 `[h, h, 3]`, what was seen, averaged as the scores are.
      count: float32 `[h, h]`, how many frames these are of; 0 where there was none.
    """

    grid: np.ndarray
    edge: float
    mean: np.ndarray
    held: np.ndarray
    picture: np.ndarray
    count: np.ndarray


class Steady:
    """Holds the frames of one video steady; `FaceParser.results` takes it.

    It holds the last frame's scores of each view, and nothing that grows with the video. Frames of
    another scene or size, and faces that were not there before, start anew.
    """

    def __init__(self):
        self._thumbnail: np.ndarray | None = None
        self._hw = (0, 0)
        self._tracks: list[_Track] = []
        self._identities = itertools.count()
        # Of the frames that are followed and not yet averaged: whose faces these are, which scene.
        self._underway: collections.deque[tuple[tuple[int, ...], int]] = collections.deque()
        self._num_scenes = 0
        self._scene = 0
        self._past: dict[tuple, _Past] = {}

    def follow(self, photograph: Photograph) -> Photograph:
        """Returns the next frame with the faces that were found in it held steady.

        They come in the order in which they first appeared. A face that is missed in two frames at
        most stays where it was, unless the picture changed there. Boxes that were given are taken
        as they are.

        Args:
          photograph: the frame; its `faces`, and whether they `are_found`, are replaced.
        """
        image = photograph.image
        if self._is_cut(image):
            self._tracks = []
            self._num_scenes += 1
        identities = tuple(range(len(photograph.faces)))
        if photograph.is_searched:
            self._match(photograph.faces, image)
            photograph.faces = [track.face for track in self._tracks]
            photograph.are_found = bool(self._tracks)
            identities = tuple(track.identity for track in self._tracks)
        self._underway.append((identities, self._num_scenes))
        return photograph

    def average(self, photograph: Photograph) -> Photograph:
        """Returns the next frame with its views' scores averaged over what was still before.

        Args:
          photograph: the frame, which `follow` has seen; its views have scores, which are replaced.
        """
        identities, scene = self._underway.popleft()
        if scene != self._scene:
            self._past, self._scene = {}, scene
        past = {}
        for view in photograph.views:
            key = view.level, tuple(identities[number] for number in view.faces)
            picture = views.shown(photograph.image, view.grid, view.num_cells).astype(np.float32)
            past[key] = averaged(self._past.get(key), view, picture)
            view.scores = past[key].held
        self._past = past
        return photograph

    def _is_cut(self, image: np.ndarray) -> bool:
        """Returns whether a frame is of another scene than the one before, or could not be read."""
        if not image.size:
            return True
        before, hw = self._thumbnail, self._hw
        self._thumbnail, self._hw = _thumbnail(image), image.shape[:2]
        return before is None or hw != self._hw or not _alike(before, self._thumbnail, _SAME_SCENE)

    def _match(self, faces: list[Face], image: np.ndarray) -> None:
        """Goes on with the tracks by the faces that are found in the next frame."""
        pairs = sorted(
            (
                (_overlap(track.found.box, face.box), number, index)
                for number, track in enumerate(self._tracks)
                for index, face in enumerate(faces)
            ),
            key=lambda pair: -pair[0],
        )
        found_by: dict[int, int] = {}
        for overlap, number, index in pairs:
            is_free = number not in found_by and index not in found_by.values()
            if overlap >= _SAME_FACE and is_free:
                found_by[number] = index
        tracks = []
        for number, track in enumerate(self._tracks):
            if number in found_by:
                face = faces[found_by[number]]
                patch, held = _patch(image, face), held_face(track.face, face)
                tracks.append(_Track(track.identity, held, face, patch))
                continue
            is_there = track.missed < _MOST_MISSED and _alike(
                track.patch, _patch(image, track.found), _SAME_PATCH
            )
            if is_there and all(_overlap(track.found.box, f.box) < _SAME_FACE for f in faces):
                tracks.append(dataclasses.replace(track, missed=track.missed + 1))
        for index, face in enumerate(faces):
            if index not in found_by.values():
                tracks.append(_Track(next(self._identities), face, face, _patch(image, face)))
        self._tracks = tracks


def held_face(before: Face, now: Face) -> Face:
    """Returns a face as it is found, its box and roll held where they moved less than the play."""
    play = _MIDDLE_PLAY * now.side
    middle = _with_play(before.middle, now.middle, play)
    sides = np.exp(_with_play(np.log(_sides(before)), np.log(_sides(now)), _SIDES_PLAY))
    turned = abs((now.roll - before.roll + math.pi) % (2 * math.pi) - math.pi)
    box = np.concatenate([middle - sides / 2, middle + sides / 2])
    return dataclasses.replace(
        now,
        box=tuple(box.tolist()),
        roll=now.roll if turned > _ROLL_PLAY else before.roll,
    )


def averaged(past: _Past | None, view: View, picture: np.ndarray) -> _Past:
    """Returns what a view has shown so far, this frame too.

    Args:
      past: of the frame before; None: nothing.
      view: with its scores.
      picture: float32 `[h, h, 3]`, what it shows at the grid's points.
    """
    scores = view.scores
    if past is None:
        count = np.ones(scores.shape[:2], np.float32)
        return _Past(view.grid, view.edge, scores, scores, picture, count)
    past = _seen_from(past, view)
    stillness = still(past.picture, picture, past.count > 0)
    # Of a still cell the mean of its frames, at most of so many; of others this frame alone.
    count = np.minimum(1 + stillness * past.count, _MOST_FRAMES)
    mean = past.mean + (scores - past.mean) / count[..., None]
    play = (_SCORE_PLAY * stillness)[..., None]
    return _Past(
        view.grid,
        view.edge,
        mean,
        _with_play(past.held, mean, play),
        past.picture + (picture - past.picture) / count[..., None],
        count,
    )


def still(before: np.ndarray, now: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Returns float32 `[h, h]`, 0 to 1: where a picture differs from one before by noise alone.

    The noise is what the stiller cells differ by, yet no more than shows in the picture itself.

    Args:
      before: float32 `[h, h, 3]`.
      now: float32 `[h, h, 3]`.
      is_known: bool `[h, h]`: where there is one before; elsewhere nothing is still.
    """
    if not is_known.any():
        return np.zeros(is_known.shape, np.float32)
    difference = cv2.blur(np.square(now - before).mean(axis=2), (_NEAR, _NEAR))
    in_time = np.quantile(difference[is_known], 0.25)
    # The median of the absolute values is 0.6745 deviations.
    in_space = np.square(np.median(np.abs(cv2.filter2D(now, -1, _NOISE_FILTER))) / 0.6745)
    variance = max(min(in_time, in_space), _LEAST_VARIANCE)
    change = np.clip((difference / variance - _NOISE) / (_CHANGE - _NOISE), 0, 1)
    return np.where(is_known, 1 - change, 0).astype(np.float32)


def _seen_from(past: _Past, view: View) -> _Past:
    """Returns the past at the grid points of a view that has moved."""
    if past.mean.shape == view.scores.shape and np.array_equal(past.grid, view.grid):
        return past
    side, place = past.count.shape[0], (slice(0, view.num_cells),) * 2
    there = unwarp.between(past.grid, view.grid)
    mean, held, picture, count = (
        unwarp.sample(values, there, (view.num_cells, view.num_cells))
        for values in (past.mean, past.held, past.picture, past.count[..., None])
    )
    is_known = unwarp.is_shown(there, side, place, past.edge)
    count = np.where(is_known, np.minimum(count[..., 0], _MOST_FRAMES_MOVED), 0)
    return _Past(view.grid, view.edge, mean, held, picture, count.astype(np.float32))


def _with_play(before: np.ndarray, now: np.ndarray, play) -> np.ndarray:
    return np.clip(before, now - play, now + play)


def _sides(face: Face) -> np.ndarray:
    return np.subtract(face.box[2:], face.box[:2])


def _overlap(a, b) -> float:
    """Returns the intersection of two boxes as a share of their union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - shared)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    small = cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.mean(axis=2)


def _patch(image: np.ndarray, face: Face) -> np.ndarray:
    """Returns a small picture of a face; it has a pixel at least that is the photograph's."""
    height, width = image.shape[:2]
    left, right = (min(max(int(edge), 0), width - 1) for edge in face.box[::2])
    top, bottom = (min(max(int(edge), 0), height - 1) for edge in face.box[1::2])
    return _thumbnail(image[top : bottom + 1, left : right + 1])


def _alike(a: np.ndarray, b: np.ndarray, least: float) -> bool:
    """Returns whether two small pictures correlate, or hardly differ."""
    if np.abs(a - b).mean() < _SAME_LEVEL:
        return True
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum()) >= least * float(np.sqrt((a * a).sum() * (b * b).sum()) + 1e-6)
