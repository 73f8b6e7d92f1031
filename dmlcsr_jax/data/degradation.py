"""Photographs as they come: dark, pale, tinted, grey, blurred, small, noisy, compressed.

The order is a camera's: light, colour, lens, then a small picture that is noisy and compressed
before it is enlarged to the size at which it is looked at.
"""

import dataclasses
import math

import cv2
import numpy as np

_KINDS = ("exposure", "gamma", "cast", "grey", "blur", "size", "noise", "jpeg")
_EACH = 0.35  # probability of each kind in a view that is degraded
_BEST_JPEG = 85
_SMALLEST = 0.05  # of the noise's and the blur's greatest strength


@dataclasses.dataclass(frozen=True)
class Degradation:
    """How strong each kind may be; every strength is drawn, mostly evenly, from none to this.

    Attributes:
      prob: probability that a view is degraded, by one or more of the kinds. 0: never, and no
        number is drawn.
      exposure: stops by which light is halved or doubled, at most.
      gamma: greatest exponent on the brightness, its inverse the least; drawn evenly in its
        logarithm. 1: none.
      cast: greatest change of one channel, as a share.
      grey: whether a view may be grey.
      blur: greatest standard deviation of a Gaussian blur, pixels of the input.
      size: least side of the picture before it is enlarged to the input's, pixels; drawn evenly in
        its logarithm. 0: none.
      noise: greatest standard deviation of Gaussian noise, of 255.
      jpeg: least quality of a JPEG, the greatest is 85. 0: none.
    """

    prob: float = 0.0
    exposure: float = 1.5
    gamma: float = 2.5
    cast: float = 0.4
    grey: bool = True
    blur: float = 4.0
    size: int = 48
    noise: float = 20.0
    jpeg: int = 15

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are not off."""
        return tuple(kind for kind in _KINDS if getattr(self, kind) > (1 if kind == "gamma" else 0))


def degrade(image: np.ndarray, rng: np.random.Generator, degradation: Degradation) -> np.ndarray:
    """Returns a view as a worse camera, or a worse way to the viewer, would have shown it.

    Args:
      image: uint8 `[H, W, 3]` RGB.
      rng: source of the draws; of none where `degradation.prob` is 0.
      degradation: which kinds, and how strong.

    Returns:
      uint8 `[H, W, 3]`; the picture itself where it is not degraded.
    """
    if not degradation.prob or rng.random() >= degradation.prob or not degradation.kinds:
        return image
    kinds = degradation.kinds
    chosen = {kind for kind in kinds if rng.random() < _EACH}
    chosen = chosen or {kinds[rng.integers(len(kinds))]}
    hw = image.shape[:2]
    image = _light(image, rng, degradation, chosen)
    if "grey" in chosen:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if "blur" in chosen:
        sigma = degradation.blur * rng.uniform(_SMALLEST, 1)
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if "size" in chosen:
        side = min(_log_uniform(rng, degradation.size, max(hw)), max(hw))
        small = tuple(max(1, round(length * side / max(hw))) for length in reversed(hw))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if "noise" in chosen:
        std = degradation.noise * rng.uniform(_SMALLEST, 1)
        noise = std * rng.standard_normal(image.shape, dtype=np.float32)
        image = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    if "jpeg" in chosen:
        quality = int(rng.integers(degradation.jpeg, _BEST_JPEG + 1))
        image = _jpeg(image, quality)
    if image.shape[:2] != hw:
        image = cv2.resize(image, hw[::-1], interpolation=cv2.INTER_LINEAR)
    return image


def _light(
    image: np.ndarray, rng: np.random.Generator, degradation: Degradation, chosen: set[str]
) -> np.ndarray:
    """Returns the picture with exposure, gamma and cast of those chosen, by one table a channel."""
    gains, exponent = np.ones(3), 1.0
    if "exposure" in chosen:
        gains *= 2.0 ** rng.uniform(-degradation.exposure, degradation.exposure)
    if "cast" in chosen:
        gains[rng.integers(3)] *= 1 + degradation.cast * rng.uniform(-1, 1)
    if "gamma" in chosen:
        exponent = _log_uniform(rng, 1 / degradation.gamma, degradation.gamma)
    if exponent == 1 and (gains == 1).all():
        return image
    levels = np.arange(256)[:, None] / 255
    table = np.clip(np.rint(255 * gains * levels**exponent), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table.reshape(1, 256, 3))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)
