"""The parts of a face as closed curves, painted from back to front."""

import functools

import numpy as np

from dmlcsr_jax.data.synthetic.canvas import Canvas, Look


def paint_behind_face(canvas: Canvas, look: Look, rng: np.random.Generator):
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


def paint_face(canvas: Canvas, look: Look, rng: np.random.Generator):
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


def _paint_eyes(canvas: Canvas, look: Look, rng: np.random.Generator, gap: float, y: float):
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


def _paint_brows(canvas: Canvas, look: Look, rng: np.random.Generator, gap: float, eye_y: float):
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


def _paint_nose(canvas: Canvas, look: Look, rng: np.random.Generator, eye_y: float):
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


def _paint_mouth(canvas: Canvas, look: Look, rng: np.random.Generator):
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


def paint_front_hair(canvas: Canvas, look: Look, rng: np.random.Generator):
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


def paint_occluders(canvas: Canvas, look: Look, rng: np.random.Generator):
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


@functools.cache
def _circle(count: int = 32) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def _ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    return _circle() * (width, height) + (x, y)


def _face_outline(look: Look, grow: float = 1.0) -> np.ndarray:
    """Returns the outline of the face: an ellipse narrowed towards the chin."""
    points = _circle(48) * (look.face_width * grow, grow)
    points[:, 0] *= 1 - look.jaw * np.maximum(points[:, 1], 0) ** 2
    return points
