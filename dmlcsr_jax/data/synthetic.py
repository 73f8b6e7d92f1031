"""Procedurally drawn faces with Helen's eleven classes, for tests and for training without data.

A face is a handful of closed curves in a face's own coordinates (x to the image's right, y down,
the face about 1.5 wide and 2 high, z towards the viewer), turned by yaw, pitch and roll, and
painted back to front on an image and on a label map together.
"""

import dataclasses
import functools

import cv2
import numpy as np

from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.errors import UserError

_LABELS = {name: label for label, name in enumerate(HELEN.classes)}
# Painting at three times the size: averaging 3x3 gives soft edges in the image, taking the middle
# one of them gives the label at the pixel's centre.
_SUPERSAMPLING = 3
_SUBPIXEL_BITS = 4


class SyntheticSource:
    """A random-access source of drawn faces, `{"image", "label", "name"}`.

    Args:
      num_examples: number of faces.
      size: side of the square image and label, pixels.
      seed: sources of different seeds share no face.
      label_noise: as in `draw_face`.

    Raises:
      UserError: where a value is impossible.
    """

    def __init__(self, num_examples: int, size: int, seed: int = 0, label_noise: float = 0.0):
        """Checks and keeps the arguments; nothing is drawn yet."""
        if num_examples < 1:
            raise UserError(f"num_examples is {num_examples}; ask for one drawn face or more.")
        if size < 32:
            raise UserError(f"drawn faces of size {size} are too small; ask for 32 or more.")
        if seed < 0:
            raise UserError(f"the seed of drawn faces is {seed}; it must be 0 or more.")
        if not 0 <= label_noise <= 1:
            raise UserError(f"label_noise is {label_noise}; it must be 0 to 1.")
        self._num_examples = num_examples
        self._size = size
        self._seed = seed
        self._label_noise = label_noise

    def __len__(self) -> int:
        """Returns the number of faces."""
        return self._num_examples

    def __getitem__(self, index: int) -> dict:
        """Draws face `index`: "image" uint8 `[S, S, 3]` RGB, "label" uint8 `[S, S]`, "name"."""
        if not 0 <= index < self._num_examples:
            raise IndexError(index)
        image, label = draw_face(int(index), self._size, self._seed, self._label_noise)
        return {"image": image, "label": label, "name": f"face_{index:06d}"}


def draw_face(
    index: int, size: int, seed: int = 0, label_noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a face; the same arguments give the same pixels.

    Args:
      index: which face, 0 or more.
      size: side of the square image and label, pixels.
      seed: which series of faces, 0 or more.
      label_noise: 0 for exact labels. Otherwise each brow, eye, nose and lip is labelled as skin
        with probability `label_noise / 4`, and each pixel near a boundary takes, with probability
        `label_noise`, the label of a pixel up to `size / 48` away. The image stays the same.

    Returns:
      image uint8 `[size, size, 3]` RGB and label uint8 `[size, size]` of Helen's classes. Neck,
      ears, clothes, glasses and whatever covers the face are background. "Left" is the image's.
    """
    rng = np.random.default_rng((seed, index))
    look = _random_look(rng)
    canvas = _Canvas(size, look, _background(rng, size * _SUPERSAMPLING))
    _paint_behind_face(canvas, look, rng)
    _paint_face(canvas, look, rng)
    _paint_front_hair(canvas, look, rng)
    _paint_occluders(canvas, look, rng)
    image = _develop(canvas.image, size, rng)
    label = np.ascontiguousarray(canvas.label[1::_SUPERSAMPLING, 1::_SUPERSAMPLING])
    if label_noise > 0:
        # A generator of its own, so that the noise leaves the picture as it is.
        label = _disturb(label, label_noise, np.random.default_rng((seed, index, 1)))
    return image, label


@dataclasses.dataclass(frozen=True)
class _Look:
    """What one face looks like: pose in radians and shares of the image, colours RGB 0 to 255."""

    centre: tuple[float, float]
    scale: float
    rotation: np.ndarray
    roll: float
    yaw: float
    face_width: float
    jaw: float
    skin: np.ndarray
    hair: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    cloth: np.ndarray


def _random_look(rng: np.random.Generator) -> _Look:
    yaw, pitch = np.clip(rng.normal(0, (0.3, 0.15)), (-0.6, -0.3), (0.6, 0.3))
    roll = np.clip(rng.normal(0, 0.2), -0.6, 0.6)
    turn_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    turn_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
    )
    turn_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0]])
    darkness = rng.random()
    skin = (1 - darkness) * np.array([246, 208, 182]) + darkness * np.array([92, 58, 42])
    skin = skin + rng.normal(0, 8, 3)
    natural = np.array([[28, 22, 20], [62, 40, 28], [110, 72, 40], [196, 158, 96], [150, 148, 146]])
    hair = natural[rng.integers(len(natural))] + rng.normal(0, 12, 3)
    if rng.random() < 0.1:
        hair = rng.uniform(20, 235, 3)
    return _Look(
        centre=tuple(0.5 + rng.uniform(-0.07, 0.07, 2)),
        scale=rng.uniform(0.28, 0.4),
        rotation=turn_z @ turn_x @ turn_y,
        roll=roll,
        yaw=yaw,
        face_width=rng.uniform(0.68, 0.84),
        jaw=rng.uniform(0.1, 0.38),
        skin=np.clip(skin, 25, 250),
        hair=np.clip(hair, 8, 245),
        lips=np.clip(0.55 * skin + 0.45 * rng.uniform((150, 20, 40), (215, 90, 100)), 20, 250),
        iris=rng.uniform((20, 30, 20), (110, 120, 150)),
        cloth=rng.uniform(15, 240, 3),
    )


class _Canvas:
    """An image and a label map under one brush, both `_SUPERSAMPLING` times the final size."""

    def __init__(self, size: int, look: _Look, background: np.ndarray):
        self.image = background
        self.label = np.zeros(background.shape[:2], np.uint8)
        self._side = size * _SUPERSAMPLING
        self._look = look

    def project(self, points: np.ndarray, lift: float | None = 0.0) -> np.ndarray:
        """Returns `[N, 2]` canvas pixels of `[N, 2]` points on the head.

        `lift` is added to the depth of the head's surface. None is for outlines: seen from any
        side a head is about as wide, so that they only roll, and the chin goes where it points.
        """
        look = self._look
        x, y = points.T
        if lift is None:
            x = x + 0.25 * np.sin(look.yaw) * np.maximum(y, 0) ** 2 * (y < 1.1)
            cos, sin = np.cos(look.roll), np.sin(look.roll)
            turned = np.column_stack([cos * x - sin * y, sin * x + cos * y])
        else:
            inside = 1 - (x / 0.85) ** 2 - (y / 1.15) ** 2
            depth = 0.7 * np.sqrt(np.maximum(inside, 0)) + lift
            turned = np.column_stack([x, y, depth]) @ look.rotation.T
        return (np.array(look.centre) + turned * look.scale) * self._side

    def fill(self, points: np.ndarray, colour, label: str | None = None, lift: float | None = 0.0):
        """Paints a closed curve of points on the head; without a label the labels stay."""
        self.fill_pixels(self.project(points, lift), colour, label)

    def fill_pixels(self, pixels: np.ndarray, colour, label: str | None = None):
        """Paints a closed curve of canvas pixels."""
        fixed = np.rint(pixels * 2**_SUBPIXEL_BITS).astype(np.int32)
        colour = tuple(float(c) for c in np.clip(colour, 0, 255))
        cv2.fillPoly(self.image, [fixed], colour, cv2.LINE_8, _SUBPIXEL_BITS)
        if label is not None:
            cv2.fillPoly(self.label, [fixed], _LABELS[label], cv2.LINE_8, _SUBPIXEL_BITS)

    def stroke(self, points: np.ndarray, colour, width: float, label: str | None = None):
        """Paints an open line of points on the head, `width` in the face's units."""
        fixed = np.rint(self.project(points) * 2**_SUBPIXEL_BITS).astype(np.int32)
        colour = tuple(float(c) for c in np.clip(colour, 0, 255))
        thickness = max(1, round(width * self._look.scale * self._side))
        arguments = (thickness, cv2.LINE_8, _SUBPIXEL_BITS)
        cv2.polylines(self.image, [fixed], False, colour, *arguments)
        if label is not None:
            cv2.polylines(self.label, [fixed], False, _LABELS[label], *arguments)


@functools.cache
def _circle(count: int = 32) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def _ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    return _circle() * (width, height) + (x, y)


def _face_outline(look: _Look, grow: float = 1.0) -> np.ndarray:
    """Returns the outline of the face: an ellipse narrowed towards the chin."""
    points = _circle(48) * (look.face_width * grow, grow)
    points[:, 0] *= 1 - look.jaw * np.maximum(points[:, 1], 0) ** 2
    return points


def _smooth_noise(rng: np.random.Generator, cells: int, side: int, channels: int) -> np.ndarray:
    """Returns float32 `[side, side, channels]`, a smooth random field of about unit variance."""
    coarse = rng.standard_normal((cells, cells, channels)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, -1)


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Returns uint8 `[side, side, 3]`: a cloudy wall with some blocks and lines on it."""
    small = 48
    image = rng.uniform(20, 235, 3) + rng.uniform(5, 40) * _smooth_noise(rng, 4, small, 3)
    image = image + rng.uniform(2, 22) * _smooth_noise(rng, 16, small, 1)
    image = np.clip(image, 0, 255).astype(np.uint8)
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(0, 7)):
        x, y, width, height = (rng.random(4) * (side, side, side / 2, side / 2)).astype(int)
        colour = tuple(rng.uniform(0, 255, 3))
        if rng.random() < 0.5:
            cv2.rectangle(image, (x, y), (x + width, y + height), colour, -1)
        else:
            end = (int(x + width - side / 4), int(y + height - side / 4))
            cv2.line(image, (x, y), end, colour, int(rng.integers(2, 1 + side // 12)))
    return image


def _paint_behind_face(canvas: _Canvas, look: _Look, rng: np.random.Generator):
    """Paints what the face covers: the hair at the back, neck, clothes and ears."""
    top = rng.uniform(1.12, 1.28)
    if rng.random() < 0.5:
        # Long hair falls beside the face.
        length = rng.uniform(0.5, 1.6)
        spread = look.face_width * rng.uniform(1.2, 1.5)
        upper = _circle(48)[24:] * (look.face_width * 1.22, top) + (0, -0.05)
        wave = rng.normal(0, 0.03, (2, 6))
        down = np.linspace(0, length, 6)
        right = np.column_stack([np.linspace(upper[-1, 0], spread, 6) + wave[0], down])
        left = np.column_stack([np.linspace(upper[0, 0], -spread, 6) + wave[1], down])[::-1]
        back = np.concatenate([upper, right, left])
    else:
        back = _ellipse(0, -0.22, look.face_width * 1.16, top - 0.16)
    canvas.fill(back, look.hair * 0.8, "hair", lift=None)
    neck = look.face_width * rng.uniform(0.5, 0.7)
    column = np.array([[-neck, 0.4], [neck, 0.4], [neck * 1.1, 1.6], [-neck * 1.1, 1.6]])
    canvas.fill(column, look.skin * rng.uniform(0.55, 0.8), "background", lift=None)
    shoulder = rng.uniform(1.3, 1.5)
    collar = [[-neck, shoulder], [0, shoulder + 0.2], [neck, shoulder]]
    body = np.array([*collar, [2.4, 2.0], [3.5, 6], [-3.5, 6], [-2.4, 2.0]])
    canvas.fill(body, look.cloth, "background", lift=None)
    if rng.random() < 0.6:
        for side in (-1, 1):
            ear = _ellipse(side * look.face_width, 0.02, 0.1, 0.22)
            canvas.fill(ear, look.skin * 0.85, "background", lift=None)


def _paint_face(canvas: _Canvas, look: _Look, rng: np.random.Generator):
    """Paints skin, brows, eyes, nose and mouth."""
    canvas.fill(_face_outline(look), look.skin, "face_skin", lift=None)
    for side in (-1, 1):
        cheek = _ellipse(side * 0.42, 0.3, 0.2, 0.16)
        canvas.fill(cheek, look.skin + rng.normal(0, 7, 3) + (5, -3, -3))
    if rng.random() < 0.2:
        beard = _face_outline(look, 0.99)
        beard = beard[beard[:, 1] > 0.1]
        upper = np.linspace(-0.95, 0.95, 13) * look.face_width
        upper = np.column_stack([upper, 0.72 - 0.6 * (upper / look.face_width) ** 2])
        canvas.fill(np.concatenate([beard, upper]), 0.6 * look.skin + 0.4 * look.hair, lift=None)
    gap, eye_y = rng.uniform(0.3, 0.36), rng.uniform(-0.22, -0.12)
    _paint_eyes(canvas, look, rng, gap, eye_y)
    _paint_brows(canvas, look, rng, gap, eye_y)
    _paint_mouth(canvas, look, rng)
    _paint_nose(canvas, look, rng, eye_y)


def _paint_eyes(canvas: _Canvas, look: _Look, rng: np.random.Generator, gap: float, y: float):
    width, height = rng.uniform(0.13, 0.18), rng.uniform(0.045, 0.085)
    gaze = rng.uniform(-0.04, 0.04)
    t = np.linspace(0, 1, 12)
    upper = np.column_stack([width * (2 * t - 1), -height * np.sin(np.pi * t) ** 0.8])
    lower = np.column_stack([width * (2 * t - 1), 0.75 * height * np.sin(np.pi * t)])[::-1]
    almond = np.concatenate([upper, lower[1:-1]])
    for side, name in ((-1, "left_eye"), (1, "right_eye")):
        place = np.array([side * gap, y])
        canvas.fill(almond * (1.1, 1.5) + place, look.skin * 0.82)
        canvas.fill(almond + place, rng.uniform(215, 245, 3), name)
        pupil = height * 0.8
        canvas.fill(_ellipse(place[0] + gaze, y, pupil, pupil), look.iris)
        canvas.fill(_ellipse(place[0] + gaze, y, pupil / 2, pupil / 2), (12, 10, 10))
        canvas.stroke(upper + place, look.skin * 0.35, 0.02)


def _paint_brows(canvas: _Canvas, look: _Look, rng: np.random.Generator, gap: float, eye_y: float):
    length, thickness = rng.uniform(0.17, 0.23), rng.uniform(0.035, 0.06)
    arch, tilt = rng.uniform(0.02, 0.08), rng.normal(0, 0.03)
    y = eye_y - rng.uniform(0.17, 0.24)
    t = np.linspace(0, 1, 10)
    middle = y - arch * np.sin(np.pi * t) + tilt * (t - 0.5)
    half = thickness * (1 - 0.6 * t)
    x = 2 * length * t - length * 0.95
    band = np.concatenate(
        [np.column_stack([x, middle - half]), np.column_stack([x, middle + half])[::-1]]
    )
    colour = look.hair * 0.55 + look.skin * 0.1
    for side, name in ((-1, "left_brow"), (1, "right_brow")):
        canvas.fill(band * (side, 1) + (side * gap, 0), colour, name)


def _paint_nose(canvas: _Canvas, look: _Look, rng: np.random.Generator, eye_y: float):
    top, bottom = eye_y + rng.uniform(0.0, 0.06), rng.uniform(0.24, 0.32)
    bridge, wing = rng.uniform(0.05, 0.075), rng.uniform(0.13, 0.19)
    t = np.linspace(0, 1, 8)
    y = top + (bottom - top) * t
    half = bridge + (wing - bridge) * t**2.5
    base = np.linspace(np.pi, 0, 8)[1:-1]
    bottom_curve = np.column_stack([wing * np.cos(base), bottom + 0.055 * np.sin(base)])
    left = np.column_stack([-half, y])
    right = np.column_stack([half, y])[::-1]
    outline = np.concatenate([left, bottom_curve, right])
    canvas.fill(outline, look.skin * 0.88, "nose", lift=0.12)
    ridge = np.array([[-0.35, 0], [0.35, 0], [0.45, 1], [-0.45, 1]]) * (bridge * 1.6, bottom - top)
    canvas.fill(ridge * (1, 0.9) + (0, top), look.skin * 1.07, lift=0.16)
    for side in (-1, 1):
        nostril = _ellipse(side * wing * 0.5, bottom + 0.005, 0.042, 0.022)
        canvas.fill(nostril, look.skin * 0.3, lift=0.12)


def _paint_mouth(canvas: _Canvas, look: _Look, rng: np.random.Generator):
    y, half = rng.uniform(0.5, 0.58), rng.uniform(0.2, 0.3)
    smile = rng.uniform(-0.03, 0.09)
    opening = 0.0 if rng.random() < 0.12 else rng.uniform(0.03, 0.16)
    upper_lip, lower_lip = rng.uniform(0.05, 0.08), rng.uniform(0.06, 0.1)
    t = np.linspace(-1, 1, 17)
    line = y - smile * t**2
    dome = 1 - t**2
    bow = 1 - 0.25 * np.exp(-((t / 0.15) ** 2))
    curves = {
        "top": line - (opening * 0.35 + upper_lip * bow) * dome**0.7,
        "upper": line - opening * 0.35 * dome,
        "lower": line + opening * 0.65 * dome,
        "bottom": line + (opening * 0.65 + lower_lip) * dome**0.7,
    }
    rows = {name: np.column_stack([half * t, curve]) for name, curve in curves.items()}

    def between(above, below):
        return np.concatenate([rows[above], rows[below][::-1]])

    canvas.fill(between("lower", "bottom"), look.lips * 1.08, "lower_lip", lift=0.03)
    canvas.fill(between("top", "upper"), look.lips * 0.9, "upper_lip", lift=0.03)
    if opening:
        canvas.fill(between("upper", "lower"), (70, 18, 22), "inner_mouth", lift=0.03)
        if rng.random() < 0.6:
            rows["teeth"] = np.column_stack([0.97 * half * t, line + opening * 0.1 * dome])
            teeth = np.concatenate([rows["upper"] * (0.97, 1), rows["teeth"][::-1]])
            canvas.fill(teeth, (235, 230, 218), lift=0.03)
    else:
        canvas.stroke(rows["upper"], look.lips * 0.45, 0.012)


def _paint_front_hair(canvas: _Canvas, look: _Look, rng: np.random.Generator):
    """Paints the hair over the forehead, down to a ragged hairline."""
    line = rng.uniform(-0.82, -0.5)
    parting = rng.uniform(-0.5, 0.5)
    top = _circle(48)[24:] * (look.face_width * 1.14, rng.uniform(1.1, 1.22))
    t = np.linspace(1, -1, 15)
    temple = rng.uniform(0.0, 0.25)
    # More of the hair shows on the side that is turned towards the viewer.
    temple = temple + 0.7 * np.maximum(-t * look.yaw, 0)
    edge = line + (temple - line) * np.abs(t) ** 3 - 0.12 * np.exp(-(((t - parting) / 0.25) ** 2))
    edge[1:-1] += rng.normal(0, rng.uniform(0, 0.05), 13)
    hairline = np.column_stack([t * look.face_width * 1.08, edge])
    canvas.fill(np.concatenate([top, hairline]), look.hair, "hair", lift=None)
    for _ in range(6):
        start = rng.uniform(-0.6, 0.6)
        strand = np.array([[start, -1.05], [start * 1.2, -0.9], [start * 1.35, -0.75]])
        strand = strand * (look.face_width, 1)
        # Strands colour the hair without changing where it is.
        inside = strand[:, 1] < np.interp(strand[:, 0], hairline[::-1, 0], hairline[::-1, 1])
        if inside.all():
            canvas.stroke(strand, look.hair * rng.uniform(0.6, 1.5), 0.03)


def _paint_occluders(canvas: _Canvas, look: _Look, rng: np.random.Generator):
    """Paints, on some faces, glasses, a hand or a bar; their label is background."""
    kind = rng.random()
    if kind < 0.12:
        colour, radius = rng.uniform(0, 90, 3), rng.uniform(0.2, 0.26)
        for side in (-1, 1):
            rim = _ellipse(side * 0.34, -0.17, radius, radius * 0.8)
            canvas.stroke(np.concatenate([rim, rim[:1]]), colour, 0.035, "background")
        canvas.stroke(np.array([[-0.12, -0.2], [0.12, -0.2]]), colour, 0.035, "background")
    elif kind < 0.2:
        palm = np.array([rng.choice([-1, 1]) * rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.95)])
        colour = look.skin * rng.uniform(0.75, 0.95)
        canvas.fill(_ellipse(*palm, 0.22, 0.26), colour, "background", lift=None)
        direction = np.array([-np.sign(palm[0]), -1.2])
        for finger in np.linspace(-0.17, 0.17, 4):
            root = palm + np.array([finger, -0.1])
            line = np.stack([root, root + direction * rng.uniform(0.2, 0.3)])
            canvas.stroke(line, colour * 0.95, 0.1, "background")
    elif kind < 0.27:
        side = canvas.label.shape[0]
        middle, angle = rng.uniform(0.15, 0.85, 2) * side, rng.uniform(0, np.pi)
        along = np.array([np.cos(angle), np.sin(angle)]) * side * 1.5
        across = np.array([-along[1], along[0]]) * rng.uniform(0.01, 0.035)
        corners = middle + np.array(
            [along + across, along - across, -along - across, across - along]
        )
        canvas.fill_pixels(corners, rng.uniform(0, 255, 3), "background")


def _develop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns uint8 `[size, size, 3]`: the painted image under light, seen by a camera."""
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope_x, slope_y = rng.uniform(-0.35, 0.35, 2).astype(np.float32)
    light = 1 + slope_x * ramp[None, :] + slope_y * ramp[:, None]
    light = light[..., None] + 0.08 * _smooth_noise(rng, 5, size, 1)
    tint = rng.normal(1, 0.06, 3).astype(np.float32) * np.float32(rng.uniform(0.7, 1.15))
    image *= light * tint
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9) * size / 96)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += np.float32(rng.uniform(0.5, 6)) * noise
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _disturb(label: np.ndarray, label_noise: float, rng: np.random.Generator) -> np.ndarray:
    """Returns the label map as a careless annotator would have left it; see `draw_face`."""
    table = np.arange(256, dtype=np.uint8)
    for name, value in _LABELS.items():
        dropped = rng.random() < label_noise / 4
        if dropped and name not in ("background", "face_skin", "hair"):
            table[value] = _LABELS["face_skin"]
    label = cv2.LUT(label, table)
    size = label.shape[0]
    reach = max(1, round(size / 48))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near_boundary = cv2.dilate(label, kernel) != cv2.erode(label, kernel)
    y, x = np.nonzero(near_boundary & (rng.random(label.shape) < label_noise))
    shift = rng.integers(-reach, reach + 1, (2, len(y)))
    noisy = label.copy()
    noisy[y, x] = label[np.clip(y + shift[0], 0, size - 1), np.clip(x + shift[1], 0, size - 1)]
    return noisy
