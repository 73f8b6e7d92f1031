"""Drawn things before a face: hands, rods such as microphones, cards, balls and veils of a texture.

What hides a face is no part of it; parsing calls it background.
"""

import cv2
import numpy as np

from dmlcsr_jax.data.scenes import draw_scene

# From the darkest to the palest skin, RGB.
_DARK, _PALE = np.array([55.0, 35.0, 25.0]), np.array([250.0, 220.0, 200.0])
_REDDER = np.array([1.0, 0.35, 0.0])  # how blood shifts it, of up to `_BLUSH`
_BLUSH = 25.0


def draw_occlusion(rng: np.random.Generator, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws one to three things over a picture.

    Args:
      rng: source of the draws.
      image: uint8 `[S, S, 3]` RGB; half of the hands have a colour of its middle.

    Returns:
      The things, uint8 `[S, S, 3]` RGB, and where they hide the picture, bool `[S, S]`.
    """
    size = len(image)
    things, hidden = np.zeros_like(image), np.zeros((size, size), bool)
    for _ in range(rng.integers(1, 4)):
        mask = np.zeros((size, size), np.uint8)
        centre, angle = size * rng.uniform(0.1, 0.9, 2), rng.uniform(0, 2 * np.pi)
        if rng.random() < 0.5:
            _hand(mask, rng, centre, angle)
            drawn = _skin(rng, image)
        else:
            _THINGS[rng.integers(len(_THINGS))](mask, rng, centre, angle)
            drawn = draw_scene(rng, size)
        mask = mask.astype(bool)
        things[mask] = drawn[mask]
        hidden |= mask
    return things, hidden


def _hand(mask: np.ndarray, rng: np.random.Generator, centre: np.ndarray, angle: float) -> None:
    """Draws a palm, an arm behind it, and one to five fingers before it, spread or closed."""
    size = len(mask)
    palm = size * rng.uniform(0.06, 0.14)
    along = np.array([np.cos(angle), np.sin(angle)])
    _line(mask, centre, centre - 2 * size * along, 1.5 * palm * rng.uniform(0.7, 1.0))
    _ellipse(mask, centre, (palm, palm * rng.uniform(0.75, 1.0)), angle)
    spread, thickness = rng.uniform(0.1, 0.35), palm * rng.uniform(0.38, 0.5)
    for finger in range(rng.integers(1, 6)):
        # The thumb, the last, stands away from the others and is shorter.
        turned = angle + (finger - 1.5) * spread if finger < 4 else angle + rng.uniform(0.9, 1.4)
        way = np.array([np.cos(turned), np.sin(turned)])
        root = centre + 0.6 * palm * way
        reach = palm * (rng.uniform(1.0, 2.3) if finger < 4 else rng.uniform(0.7, 1.3))
        _line(mask, root, root + reach * way, thickness)


def _rod(mask: np.ndarray, rng: np.random.Generator, centre: np.ndarray, angle: float) -> None:
    """Draws a stick to beyond the picture with a ball at its end: a microphone, a spoon, a pen."""
    size = len(mask)
    thickness = size * rng.uniform(0.01, 0.08)
    _line(mask, centre, centre + 2 * size * np.array([np.cos(angle), np.sin(angle)]), thickness)
    end = thickness * rng.uniform(0.5, 1.5, 2)
    _ellipse(mask, centre, tuple(end), angle)


def _card(mask: np.ndarray, rng: np.random.Generator, centre: np.ndarray, angle: float) -> None:
    sides = tuple(len(mask) * rng.uniform(0.06, 0.45, 2))
    corners = cv2.boxPoints((tuple(centre), sides, np.degrees(angle)))
    cv2.fillConvexPoly(mask, np.rint(corners).astype(np.int32), 1)


def _ball(mask: np.ndarray, rng: np.random.Generator, centre: np.ndarray, angle: float) -> None:
    _ellipse(mask, centre, tuple(len(mask) * rng.uniform(0.03, 0.2, 2)), angle)


def _cloth(mask: np.ndarray, rng: np.random.Generator, centre: np.ndarray, angle: float) -> None:
    """Draws a shape of a rounded, uneven rim: a scarf, a mask, leaves."""
    size, corners = len(mask), rng.integers(4, 10)
    around = angle + np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = size * rng.uniform(0.05, 0.28, corners)
    rim = centre + radius[:, None] * np.stack([np.cos(around), np.sin(around)], axis=1)
    rough = np.zeros_like(mask)
    cv2.fillPoly(rough, [np.rint(rim).astype(np.int32)], 255)
    smooth = cv2.GaussianBlur(rough, (0, 0), max(size * rng.uniform(0.005, 0.03), 0.5))
    mask[smooth > 127] = 1


_THINGS = (_rod, _card, _ball, _cloth)


def _skin(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Returns a picture of skin, lit from one side: of any tone, or of the picture's middle."""
    size = len(image)
    if rng.random() < 0.5:
        y, x = (size * rng.uniform(0.35, 0.65, 2)).astype(int)
        reach = max(1, size // 50)
        colour = image[y - reach : y + reach, x - reach : x + reach].mean((0, 1))
    else:
        colour = _DARK + rng.random() * (_PALE - _DARK) + _BLUSH * rng.random() * _REDDER
    corners = rng.uniform(0.6, 1.25, (2, 2, 1)).astype(np.float32)
    light = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)[..., None]
    grain = rng.normal(0, rng.uniform(0, 6), (size, size, 1))
    return np.clip(np.rint(light * colour + grain), 0, 255).astype(np.uint8)


def _line(mask: np.ndarray, start: np.ndarray, end: np.ndarray, thickness: float) -> None:
    start, end = (np.rint(point).astype(int).tolist() for point in (start, end))
    cv2.line(mask, start, end, 1, max(1, round(thickness)))


def _ellipse(mask: np.ndarray, centre: np.ndarray, axes: tuple[float, float], angle: float) -> None:
    axes = tuple(max(1, round(axis)) for axis in axes)
    place = tuple(np.rint(centre).astype(int).tolist())
    cv2.ellipse(mask, place, axes, float(np.degrees(angle)), 0, 360, 1, -1)
