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
from dmlcsr_jax.predict.reach import of_the_head, raised, within_reach
from dmlcsr_jax.predict.views import CLOSE, View

_BACKGROUND = 0
# Over this share of its side a view's weight rises from nothing at the border to all.
_BAND = 0.2
# How much less a view's background counts than a part that a view of another face sees there.
_BACKGROUND_COUNTS = 0.1
# Views that one is averaged with: of a crowd, or of one face given a thousand times, the nearest.
_MOST_BLENDED = 8
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
        # The smallest last: of overlapping views it has most cells.
        same.sort(key=lambda layer: (-layer.side, *layer.middle))
        painted += [
            _blended(layer, others, beneath)
            for layer, others, beneath in zip(
                same, _near(same, same), _near(same, painted), strict=True
            )
        ]
    return painted


def label_map(layers: Sequence[View], hw: tuple[int, int]) -> np.ndarray:
    """Returns uint8 `hw`, the label of each pixel; background where no layer is."""
    label = np.zeros(hw, np.uint8)
    places = list(_places(layers, hw))
    for number, (layer, place, shown) in enumerate(places):
        later = [
            other
            for _, other, all_of_it in places[number + 1 :]
            if all_of_it is True and _meet(other, place)
        ]
        if any(_holds(other, place) for other in later):
            continue
        found = unwarp.label_map(layer.scores, layer.grid, place, later)
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

    Near is what lies few face sizes from its middle; 0 where no layer is, or there is no face.
    """
    owner = np.zeros(hw, np.min_scalar_type(max(len(faces), 1)))
    if not faces:
        return owner
    middles = np.array([face.middle - 0.5 for face in faces])
    sides = np.array([face.side for face in faces])
    for layer, place, shown in _places(layers, hw):
        distance = np.hypot(*(middles - layer.middle).T)
        near = np.flatnonzero(distance < layer.side / 2**0.5 + sides)
        if layer.level == CLOSE:
            near = near[np.argsort(distance[near], kind="stable")][:_MOST_BLENDED]
        numbers = sorted({*near.tolist(), *layer.faces})
        if len(numbers) <= 1:
            owner[place][shown] = numbers[0] + 1 if numbers else 1
            continue
        # On the grid alone where there are many: photographs are large.
        on_grid = _nearest(numbers, faces, *_points(layer)).astype(np.uint16)
        corner = place[1].start, place[0].start, 1.0
        found = cv2.warpAffine(
            on_grid,
            np.column_stack([layer.grid[:, :2], layer.grid @ corner]),
            (place[1].stop - place[1].start, place[0].stop - place[0].start),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
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


def _meet(a: unwarp.Place, b: unwarp.Place) -> bool:
    return all(one.start < two.stop and two.start < one.stop for one, two in zip(a, b, strict=True))


def _holds(outer: unwarp.Place, inner: unwarp.Place) -> bool:
    return all(o.start <= i.start and i.stop <= o.stop for o, i in zip(outer, inner, strict=True))


def _near(layers: Sequence[View], others: Sequence[View]) -> list[list[View]]:
    """Returns of each layer those other ones that may share a point with it, in their order.

    They are no more than `_MOST_BLENDED`, the nearest.
    """
    if not layers or not others:
        return [[] for _ in layers]
    middles, other_middles = (np.array([one.middle for one in some]) for some in (layers, others))
    radii, other_radii = (
        np.array([one.side for one in some]) / 2**0.5 for some in (layers, others)
    )
    found = []
    for number, layer in enumerate(layers):
        distance = np.hypot(*(other_middles - middles[number]).T)
        near = np.flatnonzero(distance < radii[number] + other_radii)
        nearest = near[np.argsort(distance[near], kind="stable")]
        nearest = [n for n in nearest if others[n] is not layer][:_MOST_BLENDED]
        found.append([others[n] for n in sorted(nearest)])
    return found


def _blended(layer: View, others: Sequence[View], beneath: Sequence[View]) -> View:
    """Returns a layer averaged with others of its level, upon what lies beneath."""
    if not others and not beneath:
        return layer
    side = layer.num_cells
    own = cover = _weight(layer, layer)
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
    outer, is_covered = _composite(beneath, layer)
    if outer is not None:
        cover = np.where(is_covered, cover, np.float32(1))[..., None]
        scores = outer + cover * (scores - outer)
    return dataclasses.replace(layer, scores=np.ascontiguousarray(scores, np.float32))


def _counts(scores: np.ndarray) -> np.ndarray:
    """Returns float32 `[h, h]`: what a view's word counts among those of its level."""
    return 1 - (1 - _BACKGROUND_COUNTS) * np.exp(scores[..., _BACKGROUND])


def _composite(layers: Sequence[View], on: View) -> tuple[np.ndarray | None, np.ndarray]:
    """Returns what layers say at another one's grid points, and where there is one."""
    hw = on.scores.shape[:2]
    scores, is_covered = None, np.zeros(hw, bool)
    for layer in reversed(layers):
        there = unwarp.between(layer.grid, on.grid)
        place = slice(0, hw[0]), slice(0, hw[1])
        inside = unwarp.is_shown(there, layer.num_cells, place, layer.edge) & ~is_covered
        if not inside.any():
            continue
        said = unwarp.sample(layer.scores, there, hw)
        scores = said if scores is None else np.where(inside[..., None], said, scores)
        is_covered |= inside
        if is_covered.all():
            break
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


def _of_faces_alone(view: View, faces: Sequence[Face], label_set: LabelSet) -> View:
    """Returns a wide view without the parts that belong to none of the faces in it.

    Those lie mostly beyond the part's reach, or are not connected with a face: parts of the head by
    parts of the head.
    """
    if not view.faces:
        return view
    radius = view.side / 2**0.5
    seen = [f for f in faces if np.hypot(*(f.middle - 0.5 - view.middle)) < radius + f.side]
    allowed = within_reach(_points(view), seen, label_set)
    scores = view.scores + raised(label_set)
    scores[_mostly_beyond(scores.argmax(axis=-1), allowed)[..., None] & ~allowed] = _NEVER
    # Hair that only clothes connect with a head is none.
    head = of_the_head(label_set)
    lost = _unconnected(view, seen, np.isin(scores.argmax(axis=-1), head))
    scores[..., head] = np.where(lost[..., None], _NEVER, scores[..., head])
    dropped = _unconnected(view, seen, scores.argmax(axis=-1) != _BACKGROUND)
    scores[dropped] = _NEVER
    scores[dropped, _BACKGROUND] = 0
    return dataclasses.replace(view, scores=scores)


def _unconnected(view: View, faces: Sequence[Face], mask: np.ndarray) -> np.ndarray:
    """Returns bool `[h, h]`: what of a mask on a view's grid is not connected with a face's box."""
    _, component = cv2.connectedComponents(
        cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    )
    kept = set()
    for face in faces:
        box = face.box
        corners = np.array([[box[0], box[2], box[0], box[2]], [box[1], box[1], box[3], box[3]]])
        x, y = view.grid[:, :2] @ (corners - 0.5) + view.grid[:, 2:]
        near = tuple(
            slice(*np.clip([math.floor(c.min()), math.ceil(c.max()) + 1], 0, view.num_cells))
            for c in (y, x)
        )
        kept |= set(np.unique(component[near])) - {0}
    return mask & ~np.isin(component, list(kept))


def _mostly_beyond(label: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Returns bool `[h, h]`: where patches of a class lie that are mostly beyond its reach.

    Others are not cut: they would end in a straight line.
    """
    beyond = ~np.take_along_axis(allowed, label[..., None], axis=-1)[..., 0]
    found = np.zeros_like(beyond)
    for part in np.unique(label[beyond]):
        count, patch = cv2.connectedComponents((label == part).astype(np.uint8))
        is_far = 2 * np.bincount(patch[beyond], minlength=count) > np.bincount(patch.ravel())
        found |= is_far[patch] & (label == part)
    return found


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
