"""Drawn pictures without a face: what parsing must leave alone.

Flat colours, gradients, textures of cloud or cloth by noise of several sizes, stripes, checks,
blobs, strokes as of grass, straw or fur, stones and lines of text, by themselves or one on another.
"""

import string

import cv2
import numpy as np

from dmlcsr_jax.data.label_sets import LabelSet

_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)


class SceneSource:
    """Scenes that are all background; see `sources` for what a source is.

    Args:
      num_examples: how many there are.
      size: side of the square pictures, pixels.
      label_set: says which label is the background's.
      seed: which scenes.
    """

    def __init__(self, num_examples: int, size: int, label_set: LabelSet, seed: int):
        self._num_examples = num_examples
        self._size = size
        self._seed = seed
        self._background = label_set.background

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, index: int) -> dict:
        """Draws scene `index`."""
        rng = np.random.default_rng((self._seed, index))
        return {
            "image": draw_scene(rng, self._size),
            "label": np.full((self._size, self._size), self._background, np.uint8),
            "name": f"scene_{index}",
        }


def draw_scene(rng: np.random.Generator, size: int) -> np.ndarray:
    """Returns a random scene, uint8 `[size, size, 3]` RGB."""
    scene = _gradient(rng, size) if rng.random() < 0.5 else _flat(rng, size)
    if rng.random() < 0.7:
        scene = scene + _noise(rng, size)
    for draw in (_stripes, _blobs, _strokes, _stones, _text):
        if rng.random() < 0.25:
            scene = draw(rng, scene)
    return np.clip(np.rint(scene), 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Returns a colour, float32 `[3]`: as often grey or pale as strong, by saturation."""
    grey, saturation = rng.uniform(0, 255), rng.random()
    return (grey + saturation * (rng.uniform(0, 255, 3) - grey)).astype(np.float32)


def _flat(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.broadcast_to(_colour(rng), (size, size, 3)).copy()


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    corners = np.stack([_colour(rng) for _ in range(4)]).reshape(2, 2, 3)
    return cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Returns noise of several sizes in one direction of colour, perhaps drawn out lengthwise."""
    total = np.zeros((size, size, 1), np.float32)
    slope = rng.uniform(-0.5, 1.5)  # above 0 coarse as clouds, below fine as gravel
    longer = 2 ** rng.uniform(0, 3) if rng.random() < 0.5 else 1.0
    for octave in range(2, 9):
        cells = min(2**octave, size)
        grid = rng.standard_normal((cells, max(1, round(cells / longer)))).astype(np.float32)
        if rng.random() < 0.5:
            grid = grid.T
        noise = cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR)
        total[..., 0] += 2.0 ** (-slope * octave) * noise
    total *= rng.uniform(5, 70) / max(float(total.std()), 1e-6)
    return total * (1 + rng.uniform(-0.5, 0.5, 3)).astype(np.float32)


def _stripes(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Returns the scene with stripes, or the checks of two sets of them, of another colour."""
    size = len(scene)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), size / rng.uniform(2, 40)
    on = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)) > rng.uniform(-1, 1)
    if rng.random() < 0.4:
        on ^= np.sin((y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / period)) > 0
    return np.where(on[..., None], _colour(rng) + 0.5 * (scene - scene.mean((0, 1))), scene)


def _blobs(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Returns the scene with round and angular things on it: fruit, stones, windows."""
    scene, size = scene.astype(np.float32), len(scene)
    for _ in range(rng.integers(1, 40)):
        centre = rng.integers(0, size, 2).tolist()
        axes = (size * rng.uniform(0.01, 0.25, 2)).astype(int).tolist()
        colour, angle = _colour(rng).tolist(), float(rng.uniform(0, 360))
        if rng.random() < 0.6:
            cv2.ellipse(scene, centre, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints((centre, (2 * axes[0], 2 * axes[1]), angle))
            cv2.fillConvexPoly(scene, np.rint(corners).astype(np.int32), colour, cv2.LINE_AA)
    return scene


def _strokes(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Returns the scene under many thin strokes of like colours: grass, straw, needles."""
    scene, size = scene.astype(np.float32), len(scene)
    colour, spread = _colour(rng), rng.uniform(10, 60)
    angle, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 1.2)
    length, count = size * rng.uniform(0.02, 0.2), int(rng.integers(300, 2500))
    starts = rng.uniform(-0.1, 1.1, (count, 2)) * size
    angles = angle + turn * rng.standard_normal(count)
    ends = starts + length * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    light = spread * rng.standard_normal(count)
    thickness = int(rng.integers(1, 4))
    for start, end, change in zip(starts, ends, light, strict=True):
        ends_at = (np.rint(point).astype(int).tolist() for point in (start, end))
        cv2.line(scene, *ends_at, (colour + change).tolist(), thickness, cv2.LINE_AA)
    return scene


def _stones(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Returns the scene under stones, each lit from one side: gravel, beans, leaves."""
    scene, size = scene.astype(np.float32), len(scene)
    colour, spread = _colour(rng), rng.uniform(10, 50)
    radius, count = size * rng.uniform(0.01, 0.06), int(rng.integers(100, 900))
    light = radius * rng.uniform(0.1, 0.4) * np.array([1, -1])
    for centre in rng.uniform(0, size, (count, 2)):
        axes = np.maximum(1, radius * rng.uniform(0.5, 1.2, 2)).astype(int)
        shade, angle = spread * rng.standard_normal(), float(rng.uniform(0, 180))
        for share, offset, change in ((1.0, -light, -40), (0.9, 0, 0), (0.5, light / 2, 20)):
            place = np.rint(centre + offset).astype(int).tolist()
            inner = np.maximum(1, share * axes).astype(int).tolist()
            cv2.ellipse(scene, place, inner, angle, 0, 360, (colour + shade + change).tolist(), -1)
    return scene


def _text(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """Returns the scene with lines of letters."""
    size, font = len(scene), _FONTS[rng.integers(len(_FONTS))]
    ink = np.zeros((size, size), np.uint8)
    height = size * rng.uniform(0.03, 0.2)
    letters = list(string.ascii_letters + string.digits + "     ")
    for y in np.arange(height, size + height, 1.6 * height):
        text = "".join(rng.choice(letters, 40))
        place = (int(rng.uniform(-0.2, 0.2) * size), int(y))
        thickness = max(1, round(height / rng.uniform(6, 14)))
        cv2.putText(ink, text, place, font, height / 22, 255, thickness, cv2.LINE_AA)
    return scene + (ink[..., None] / np.float32(255)) * (_colour(rng) - scene)
