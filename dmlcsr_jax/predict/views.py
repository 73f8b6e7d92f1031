"""What the network is shown of a photograph: each face close by, and around it all of the person.

A close view shows a face's fine parts; a wide one hair, neck and clothes; and the complete
photograph, or where faces are small the complete person, whatever goes on beyond. Faces near each
other share the wider views. Views are levelled by the faces' roll.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np

from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.data import geometry, unwarp, warp
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.faces import Face

# Levels of views, the innermost first.
CLOSE, WIDE, COMPLETE = range(3)

# By the figures in docs/results.md.
_DEFAULT_MARGIN = 0.4
_DEFAULT_WIDE_MARGIN = 1.5
# Of a standing person, in the longer side of the face's box: above and below its middle, and aside.
_PERSON = (2.5, 9.5, 6.0)
# A wider view of this share of the photograph's longer side is the photograph's. Of several faces,
# which have that one in common, it is less by the root of their number, to save time, down to the
# second share.
_NEARLY_ALL = (0.7, 0.38)
# Views of several faces become one where it is no larger than so many times the smallest of them.
_SHARED = 2.0
# And where the faces are turned alike.
_SAME_ROLL = math.radians(30)
# Finer than this share of the photograph's pixels are averaged before they are read bilinearly.
_FINEST = 0.5


@dataclasses.dataclass
class View:
    """A square that the network is shown, and what it says of it.

    Attributes:
      matrix: float64 `[2, 3]`, photograph pixel to input pixel.
      size: side of the input, pixels.
      level: CLOSE, WIDE or COMPLETE.
      faces: numbers of the faces it is of, from 0; none: of a photograph without.
      scores: float32 `[h, h, C]`, log-probabilities on the network's grid, whose corners lie on
        those of the input; None before they come.
    """

    matrix: np.ndarray
    size: int
    level: int
    faces: tuple[int, ...] = ()
    scores: np.ndarray | None = None

    @property
    def num_cells(self) -> int:
        """Points along a side of the grid, h."""
        return self.scores.shape[0]

    @functools.cached_property
    def grid(self) -> np.ndarray:
        """float64 `[2, 3]`: photograph pixel to grid point."""
        return unwarp.grid_matrix(self.matrix, self.size, self.num_cells)

    @functools.cached_property
    def middle(self) -> np.ndarray:
        """float64 `[2]`: x and y of its middle, pixel coordinates of the photograph."""
        half = np.full(2, (self.size - 1) / 2)
        return np.linalg.solve(self.matrix[:, :2], half - self.matrix[:, 2])

    @functools.cached_property
    def side(self) -> float:
        """Its side, pixels of the photograph."""
        return self.size / math.hypot(*self.matrix[:, 0])

    @property
    def edge(self) -> float:
        """What the view shows beyond the grid's outer points: half an input pixel, in cells."""
        return 0.5 * (self.num_cells - 1) / max(self.size - 1, 1)


def margins(
    metadata: Metadata, margin: float | None, wide_margin: float | None
) -> tuple[float, float]:
    """Returns the margins of a face's close and wide view; 0 for the latter: there is none.

    Args:
      metadata: of the network.
      margin: as `FaceParser` takes it.
      wide_margin: as `FaceParser` takes it.

    Raises:
      UserError: where one is below 0 or not finite.
    """
    for each in (margin, wide_margin):
        if each is not None and not 0 <= each < math.inf:
            raise UserError(f"the margin is {each}; it must be 0 or more.")
    if margin is None:
        margin = _DEFAULT_MARGIN if metadata.crop_margin is None else metadata.crop_margin
    if wide_margin is None:
        wide_margin = _DEFAULT_WIDE_MARGIN if metadata.crop_margin is None else 0.0
    return margin, wide_margin if wide_margin > margin else 0.0


def plan(
    hw: tuple[int, int],
    faces: Sequence[Face],
    chosen: Sequence[int],
    size: int,
    *,
    margin: float,
    wide_margin: float,
) -> list[View]:
    """Returns the views of a photograph's faces, the innermost first.

    Args:
      hw: the photograph's height and width.
      faces: all that are in it.
      chosen: numbers of those that are labelled.
      size: side of the network's input.
      margin: of the close views, as a share of the box's longer side.
      wide_margin: of the wide views; 0: close views alone.
    """
    views = []
    for number in chosen:
        box = np.array(faces[number].box) - 0.5
        matrix = geometry.box_matrix(box, size, margin=margin, angle=-faces[number].roll)
        views.append(View(matrix, size, CLOSE, (number,)))
    if not wide_margin or not chosen:
        return views
    longest, (most, least) = max(hw), _NEARLY_ALL
    nearly_all = max(most / len(chosen) ** 0.5, least) * longest
    reach = {number: _longer(faces[number].box) * (1 + 2 * wide_margin) for number in chosen}
    squares = [(number, *_wide(faces[number], wide_margin)) for number in chosen]
    views += [
        View(geometry.box_matrix(box, size, angle=-roll), size, WIDE, members)
        for box, roll, members in _shared(squares, faces, hw)
        if any(reach[member] < nearly_all for member in members)
    ]
    people = [(number, *_person(faces[number])) for number in chosen]
    if any(side >= most * longest for _, _, side in people):
        return [*views, complete(hw, size, [faces[number] for number in chosen], tuple(chosen))]
    views += [
        View(geometry.box_matrix(box, size, angle=-roll), size, COMPLETE, members)
        for box, roll, members in _shared(people, faces, hw)
    ]
    return views


def complete(
    hw: tuple[int, int], size: int, faces: Sequence[Face] = (), numbers: tuple[int, ...] = ()
) -> View:
    """Returns the view of the complete photograph, levelled where its faces are turned alike.

    Args:
      hw: the photograph's height and width.
      size: side of the network's input.
      faces: those in it.
      numbers: theirs.
    """
    rolls = [face.roll for face in faces]
    roll = rolls[0] if rolls and all(_angle(r, rolls[0]) < _SAME_ROLL for r in rolls) else 0.0
    cos, sin = abs(math.cos(roll)), abs(math.sin(roll))
    turned = max(hw[1] * cos + hw[0] * sin, hw[1] * sin + hw[0] * cos)
    matrix = geometry.box_matrix(
        geometry.photograph_box(hw), size, scale=max(hw) / turned if roll else 1.0, angle=-roll
    )
    return View(matrix, size, COMPLETE, numbers)


def shown(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Returns uint8 `[size, size, 3]`: what a view shows of a photograph, black outside.

    Args:
      image: uint8 `[H, W, 3]`.
      matrix: float64 `[2, 3]`, photograph pixel to input pixel.
      size: side of the network's input.
    """
    hw = image.shape[:2]
    scale = math.hypot(*matrix[:, 0])
    if scale >= _FINEST:
        return warp.warp_image(image, matrix, size)
    # Bilinear reading alone would pick single pixels out of noise.
    factor = 2 ** math.floor(math.log2(1 / scale))
    rows, columns = _seen(matrix, size, hw, factor)
    part = reduced = image[rows, columns]
    # OpenCV averages halves much faster than other shares.
    for step in (2, factor // 2):
        small = max(1, reduced.shape[1] // step), max(1, reduced.shape[0] // step)
        reduced = cv2.resize(reduced, small, interpolation=cv2.INTER_AREA)
    moved = np.column_stack([matrix[:, :2], matrix @ (columns.start, rows.start, 1.0)])
    moved = geometry.change_source(moved, part.shape[:2], reduced.shape[:2])
    return warp.warp_image(reduced, moved, size)


def _seen(matrix, size: int, hw: tuple[int, int], factor: int) -> tuple[slice, slice]:
    """Returns rows and columns of the photograph that hold what a view shows, and a little more.

    They are a multiple of the factor, unless they are all that there are.
    """
    corners = np.stack(np.meshgrid([-1.0, size], [-1.0, size])).reshape(2, 4)
    found = []
    for positions, side in zip(
        np.linalg.solve(matrix[:, :2], corners - matrix[:, 2:])[::-1], hw, strict=True
    ):
        start = min(max(math.floor(positions.min()) - factor, 0), side - 1)
        stop = min(max(math.ceil(positions.max()) + factor, start + 1), side)
        excess = (stop - start) % factor if stop - start > factor else 0
        found.append(
            slice(start, stop - excess) if stop < side else slice(start + min(excess, start), stop)
        )
    return tuple(found)


def _longer(box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _angle(a: float, b: float) -> float:
    """Returns how far two angles differ, radians, 0 to pi."""
    return abs((a - b + math.pi) % (2 * math.pi) - math.pi)


def _wide(face: Face, margin: float) -> tuple[np.ndarray, float]:
    """Returns the square of a face's wide view, pixel coordinates, and its side."""
    middle = (np.array(face.box[:2]) + face.box[2:]) / 2 - 0.5
    side = _longer(face.box) * (1 + 2 * margin)
    return np.concatenate([middle - side / 2, middle + side / 2]), side


def _person(face: Face) -> tuple[np.ndarray, float]:
    """Returns the square about a complete person, pixel coordinates, and its side."""
    unit, (above, below, aside) = _longer(face.box), _PERSON
    middle = (np.array(face.box[:2]) + face.box[2:]) / 2 - 0.5
    down = np.array([-math.sin(face.roll), math.cos(face.roll)])
    middle = middle + down * unit * (below - above) / 2
    side = unit * max(above + below, 2 * aside)
    return np.concatenate([middle - side / 2, middle + side / 2]), side


def _shared(
    squares: Sequence[tuple[int, np.ndarray, float]], faces: Sequence[Face], hw: tuple[int, int]
) -> list[tuple[np.ndarray, float, tuple[int, ...]]]:
    """Joins squares of near faces; returns box, roll and numbers of the faces of each.

    Args:
      squares: number of the face, its square and that one's side.
      faces: all of the photograph.
      hw: the photograph's height and width.
    """
    edges = geometry.photograph_box(hw)
    joined: list[list] = []  # Box, roll, numbers, side of the smallest.
    for number, square, side in sorted(squares, key=lambda one: -one[2]):
        roll = faces[number].roll
        # Of a levelled view nothing beyond the photograph is shown.
        box = (
            square
            if roll
            else np.concatenate(
                [np.maximum(square[:2], edges[:2]), np.minimum(square[2:], edges[2:])]
            )
        )
        for one in joined:
            union = np.concatenate(
                [np.minimum(one[0][:2], box[:2]), np.maximum(one[0][2:], box[2:])]
            )
            if _angle(one[1], roll) < _SAME_ROLL and _longer(union) <= _SHARED * side:
                one[0], one[2] = union, (*one[2], number)
                break
        else:
            joined.append([box, roll, (number,)])
    return [(box, roll, members) for box, roll, members in joined]
