"""One label map of a photograph, made of what the network says of its views.

All blending is done on the views' grids, before anything is made at the photograph's size. A view's
weight falls to nothing at its border, where what lies beneath is: the next wider view, and in the
end the background. Views of one level that overlap are averaged by their weights. Log-probabilities
are averaged, and interpolated, so that the highest one between grid points is what a network alone
would have said. Each pixel's label is then read from the innermost view that shows it.
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from dmlcsr_jax.data import unwarp
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.predict.faces import Face
from dmlcsr_jax.predict.reach import within_reach
from dmlcsr_jax.predict.views import CLOSE, View

_BACKGROUND = 0
# Over this share of its side a view's weight rises from nothing at the border to all.
_BAND = 0.2
# How much less a view's background counts than a part that a view of another face sees there.
_BACKGROUND_COUNTS = 0.1
# Log-probability of what is not there.
_NEVER = -16.0


def blend(views: Sequence[View], faces: Sequence[Face], label_set: LabelSet) -> list[View]:
    """Blends views with each other; returns layers in the order in which they are painted.

    Args:
      views: with their scores; those of one level in any order.
      faces: of the photograph.
      label_set: meaning of the scores.
    """
    painted: list[View] = []
    for level in sorted({view.level for view in views}, reverse=True):
        same = [view for view in views if view.level == level]
        if level != CLOSE:
            same = [_of_faces_alone(view, faces, label_set) for view in same]
        beneath = list(painted)
        # The smallest last: of overlapping views it has most cells.
        same.sort(key=lambda layer: (np.linalg.det(layer.grid[:, :2]), layer.faces))
        painted += [_blended(layer, same, beneath) for layer in same]
    return painted


def label_map(layers: Sequence[View], hw: tuple[int, int]) -> np.ndarray:
    """Returns uint8 `hw`, the label of each pixel; background where no layer is."""
    label = np.zeros(hw, np.uint8)
    for layer, place, shown in _places(layers, hw):
        found = unwarp.label_map(layer.scores, layer.grid, place)
        np.copyto(label[place], found, where=shown)
    return label


def probability_map(layers: Sequence[View], hw: tuple[int, int], part: int) -> np.ndarray:
    """Returns float32 `hw`, 0 to 1: the probability of a class at each pixel."""
    probability = np.full(hw, part == _BACKGROUND, np.float32)
    for layer, place, shown in _places(layers, hw):
        for strip, scores in unwarp.strips(layer.scores, layer.grid, place):
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            inner = slice(strip[0].start - place[0].start, strip[0].stop - place[0].start)
            where = shown if shown is True else shown[inner]
            np.copyto(probability[strip], scores[..., part] / scores.sum(axis=-1), where=where)
    return probability


def owner_map(layers: Sequence[View], hw: tuple[int, int], faces: Sequence[Face]) -> np.ndarray:
    """Returns unsigned integers `hw`: number of the face that a pixel is nearest to, from 1.

    Near is what lies few face sizes from its middle, among the faces whose views show the pixel;
    0 where no layer is.
    """
    owner = np.zeros(hw, np.min_scalar_type(max(len(faces), 1)))
    of_level = {
        layer.level: [one for one in layers if one.level == layer.level] for layer in layers
    }
    for layer, place, shown in _places(layers, hw):
        near = sorted(
            {
                number
                for other in of_level[layer.level]
                if other is layer or _overlap(layer, other)
                for number in other.faces
            }
        )
        if len(near) <= 1:
            np.copyto(owner[place], near[0] + 1 if near else 1, where=shown, casting="unsafe")
            continue
        if layer.level == CLOSE:
            rows, columns = (np.arange(part.start, part.stop) for part in place)
            found = _nearest(near, faces, columns[None, :], rows[:, None])
        else:
            # Of many faces on the grid alone.
            on_grid = _nearest(near, faces, *_points(layer)).astype(np.uint16)
            moved = np.column_stack(
                [layer.grid[:, :2], layer.grid @ (place[1].start, place[0].start, 1.0)]
            )
            extent = place[1].stop - place[1].start, place[0].stop - place[0].start
            flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            found = cv2.warpAffine(
                on_grid, moved, extent, flags=flags, borderMode=cv2.BORDER_REPLICATE
            )
        np.copyto(owner[place], found, where=shown, casting="unsafe")
    return owner


def _places(layers: Sequence[View], hw: tuple[int, int]):
    """Yields each layer with its place in the photograph and which pixels there it shows."""
    for layer in layers:
        side = layer.num_cells
        place = unwarp.region(layer.grid, side, hw, layer.edge)
        if place[0].start >= place[0].stop or place[1].start >= place[1].stop:
            continue
        is_turned = bool(layer.grid[0, 1] or layer.grid[1, 0])
        shown = unwarp.is_shown(layer.grid, side, place, layer.edge) if is_turned else True
        yield layer, place, shown


def _blended(layer: View, same: Sequence[View], beneath: Sequence[View]) -> View:
    """Returns a layer averaged with others of its level, upon what lies beneath."""
    side = layer.num_cells
    outer, is_covered = _composite(beneath, layer)
    own = _weight(layer, layer)
    cover = own
    others = [other for other in same if other is not layer and _overlap(layer, other)]
    scores = layer.scores
    if others:
        weight = own * _counts(scores)
        total, scores = weight, scores * weight[..., None]
        for other in others:
            there = unwarp.between(other.grid, layer.grid)
            said = unwarp.sample(other.scores, there, (side, side))
            weight = _weight(other, layer)
            cover = np.maximum(cover, weight)
            weight = weight * _counts(said)
            total = total + weight
            scores = scores + said * weight[..., None]
        scores = np.where(
            total[..., None] > 0, scores / np.maximum(total, 1e-9)[..., None], layer.scores
        )
    if outer is not None:
        cover = np.where(is_covered, cover, 1.0)[..., None].astype(np.float32)
        scores = cover * scores + (1 - cover) * outer
    return dataclasses.replace(layer, scores=np.ascontiguousarray(scores, np.float32))


def _counts(scores: np.ndarray) -> np.ndarray:
    """Returns float32 `[h, h]`: what a view's word counts among those of its level."""
    return 1 - (1 - _BACKGROUND_COUNTS) * np.exp(scores[..., _BACKGROUND])


def _composite(layers: Sequence[View], on: View) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns what layers say at another one's grid points, and where there is one."""
    side = on.num_cells
    scores, is_covered = None, np.zeros((side, side), bool)
    for layer in layers:
        if not _overlap(on, layer):
            continue
        there = unwarp.between(layer.grid, on.grid)
        said = unwarp.sample(layer.scores, there, (side, side))
        inside = unwarp.is_shown(
            there, layer.num_cells, (slice(0, side), slice(0, side)), layer.edge
        )
        scores = said if scores is None else np.where(inside[..., None], said, scores)
        is_covered |= inside
    return scores, is_covered


def _weight(layer: View, on: View) -> np.ndarray:
    """Returns float32 `[h, h]`, 0 to 1: a layer's weight at another one's grid points."""
    side, last = on.num_cells, layer.num_cells - 1
    there = unwarp.between(layer.grid, on.grid)
    points = np.arange(side)
    depth = np.full((side, side), np.inf)
    for of_x, of_y, offset in there:
        point = of_x * points + (of_y * points + offset)[:, None]
        depth = np.minimum(depth, np.minimum(point, last - point))
    rise = np.clip(depth / (_BAND * last), 0, 1)
    return (rise * rise * (3 - 2 * rise)).astype(np.float32)


def _overlap(a: View, b: View) -> bool:
    """Returns whether the squares of two layers may share a point: whether their circles do."""
    circles = []
    for layer in (a, b):
        last = layer.num_cells - 1
        middle = np.linalg.solve(layer.grid[:, :2], np.full(2, last / 2) - layer.grid[:, 2])
        scale = np.sqrt(abs(np.linalg.det(layer.grid[:, :2])))
        circles.append((middle, last / 2 * np.sqrt(2) / scale))
    (middle, radius), (other, other_radius) = circles
    return bool(np.hypot(*(middle - other)) < radius + other_radius)


def _of_faces_alone(view: View, faces: Sequence[Face], label_set: LabelSet) -> View:
    """Returns a wide view without the parts that belong to none of its faces.

    Those lie beyond the part's reach, or are not connected with a face.
    """
    if not view.faces:
        return view
    own = [faces[number] for number in view.faces]
    scores = np.where(within_reach(_points(view), own, label_set), view.scores, _NEVER)
    parts = (scores.argmax(axis=-1) != _BACKGROUND).astype(np.uint8)
    _, component = cv2.connectedComponents(cv2.dilate(parts, np.ones((3, 3), np.uint8)))
    kept = set()
    for face in own:
        box = face.box
        corners = np.array([[box[0], box[2], box[0], box[2]], [box[1], box[1], box[3], box[3]]])
        x, y = view.grid[:, :2] @ (corners - 0.5) + view.grid[:, 2:]
        near = tuple(
            slice(*np.clip([math.floor(c.min()), math.ceil(c.max()) + 1], 0, view.num_cells))
            for c in (y, x)
        )
        kept |= set(np.unique(component[near])) - {0}
    dropped = (parts > 0) & ~np.isin(component, list(kept))
    scores[dropped] = _NEVER
    scores[dropped, _BACKGROUND] = 0
    return dataclasses.replace(view, scores=scores)


def _points(view: View) -> np.ndarray:
    """Returns float64 `[2, h, h]`: where the grid's points lie, pixels of the photograph."""
    back = unwarp.between(np.eye(2, 3), view.grid)
    cells = np.arange(view.num_cells)
    return np.tensordot(back[:, :2], np.stack(np.meshgrid(cells, cells)), 1) + back[:, 2:, None]


def _nearest(near: Sequence[int], faces: Sequence[Face], x: np.ndarray, y: np.ndarray):
    """Returns the number, from 1, of the nearest of some faces, by their sizes, to points."""
    best, found = None, None
    for number in near:
        left, top, right, bottom = faces[number].box
        size = max(right - left, bottom - top)
        x0, y0 = (left + right) / 2 - 0.5, (top + bottom) / 2 - 0.5
        distance = ((x - x0) ** 2 + (y - y0) ** 2) / size**2
        if best is None:
            best, found = distance, np.full(distance.shape, number + 1, np.int32)
        else:
            found[distance < best] = number + 1
            best = np.minimum(best, distance)
    return found
