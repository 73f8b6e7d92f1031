"""What a view's scores say of themselves: whether they show a face, a person, and how surely.

Everything is read from the network's probabilities and from where the features lie, by the words in
the names of the label set's classes. `docs/measure_quality.py` measured the constants; where a set
has too few classes to judge by, the answer is that of trust.
"""

import math
import re
from collections.abc import Mapping

import cv2
import numpy as np

from dmlcsr_jax.data.label_sets import LabelSet

# Words in the names of classes, by what they are here.
_WORDS = {
    "eyes": {"eye", "eyes", "glasses", "eyeglasses", "sunglasses"},
    "brows": {"brow", "brows", "eyebrow", "eyebrows"},
    "nose": {"nose"},
    "mouth": {"mouth", "lip", "lips", "teeth"},
    "hair": {"hair"},
    "skin": {"skin", "ear", "ears", "neck"},
}
_FEATURES = ("eyes", "brows", "nose", "mouth")
_NAMED = ("eyes", "nose", "mouth")
_LEAST_FEATURES = 3
# A face is looked at in so many samples each way, over its box and a little more.
_SAMPLES = 64
_EXTENT = 1.2

# A detector this sure of a face is believed; of others, some features must be this probable, or
# hair and this share of skin be there: a head seen from behind or from far aside.
_CERTAIN_SCORE = 0.85
_SURE_FEATURE, _SURE_FEATURES_OF_A_FACE = 0.75, 2
_LEAST_SKIN = 0.03
# Without a face: mean probability of the hair inside its edges, and the evidence of features.
_SURE_HAIR = 0.75
_SURE_FEATURES = 0.85
# Hair of fewer cells than this share of the view is none.
_LEAST_AREA = 0.005

# Logistic regression of the mean F1 of a face's view: certainty, evidence, upright, smallness; 1.
# The last two weigh at least so much: few of the photographs have such faults.
_WEIGHTS = (5.5, 1.5, 0.5, 0.09)
_BIAS = -5.18
# Smaller faces, by the longer side of their box in pixels, lose with each halving.
_ENOUGH_PIXELS = 100

_SMALL_PIXELS = 40
_FOUND = 0.5
_LEAST_CERTAINTY = 0.8
_TURNED = math.cos(math.radians(45))
# Nearer to the picture's edge than this share of its longer side, or beyond it, a box is cut.
_CUT = 0.01


def is_face(
    log_probabilities: np.ndarray,
    matrix: np.ndarray,
    box: tuple[float, float, float, float],
    score: float | None,
    label_set: LabelSet,
) -> bool:
    """Returns whether the map of a find shows a face.

    Two of eyes (or glasses), brows, nose and mouth must be sure somewhere within the box: a
    profile, a mask or sunglasses leave as many. Sure hair beside skin will do too: a head that is
    turned away.

    Args:
      log_probabilities: float32 `[h, h, C]` of a view of the face, on the network's grid.
      matrix: float64 `[2, 3]`, from pixels of the photograph to cells of the grid.
      box: left, top, right and bottom edge, pixels of the photograph.
      score: the detector's, 0 to 1; None where it does not say.
      label_set: meaning of the last axis; with fewer than three of the features: never doubted.
    """
    if (score is not None and score >= _CERTAIN_SCORE) or not _can_judge(label_set):
        return True
    features = _features(log_probabilities, matrix, box, label_set).values()
    if sum(patch.max() >= _SURE_FEATURE for patch in features) >= _SURE_FEATURES_OF_A_FACE:
        return True
    skin = np.isin(log_probabilities.argmax(-1), _parts(label_set).get("skin", []))
    skin = _patch(skin.astype(np.float32), matrix, box) > 0.5
    has_hair = _has_sure_hair(log_probabilities, label_set, within=(matrix, box))
    return has_hair and bool(skin.mean() >= _LEAST_SKIN)


def shows_person(log_probabilities: np.ndarray, label_set: LabelSet) -> bool:
    """Returns whether the map of a photograph without a find shows a person all the same.

    It does where the network is sure of what it calls hair, by the mean probability inside the
    hair's edges, or of the features of a face, the nose between eyes and mouth. Textures become
    hair, hats and clothes too, but unsurely; hats and clothes alone count for nothing.

    Args:
      log_probabilities: float32 `[h, h, C]` of a view of the complete photograph.
      label_set: meaning of the last axis; without hair and features: always.
    """
    parts = _parts(label_set)
    if "hair" not in parts and not _can_judge(label_set):
        return True
    if _can_judge(label_set):
        features = {name: _probability(log_probabilities, parts[name]) for name in _known(parts)}
        if _evidence(features) >= _SURE_FEATURES and _is_arranged(features):
            return True
    return _has_sure_hair(log_probabilities, label_set)


def quality(
    log_probabilities: np.ndarray,
    matrix: np.ndarray,
    box: tuple[float, float, float, float],
    score: float | None,
    roll: float,
    hw: tuple[int, int],
    label_set: LabelSet,
) -> tuple[float, tuple[str, ...]]:
    """Returns how far a face's labels can be trusted, and what speaks against them.

    The number is a logistic regression of the mean F1 on `measures`, fitted to photographs as they
    are and turned, reduced, blurred, dark, noisy, compressed and cut.

    Args:
      log_probabilities: as `is_face` takes it.
      matrix: as `is_face` takes it.
      box: as `is_face` takes it.
      score: as `is_face` takes it.
      roll: how far the face is turned clockwise in the photograph, radians.
      hw: the photograph's height and width, pixels.
      label_set: meaning of the last axis.

    Returns:
      0 to 1; and some of "turned", "small", "no eyes found", "no nose found", "no mouth found",
      "cut by the picture's edge", "unsure".
    """
    features = _features(log_probabilities, matrix, box, label_set)
    values = measures(log_probabilities, matrix, box, label_set)
    certainty, _, upright, _ = values
    longer = max(box[2] - box[0], box[3] - box[1])
    to_edge = min(box[0], box[1], hw[1] - box[2], hw[0] - box[3])
    missing = [name for name in _NAMED if name in features and features[name].max() < _FOUND]
    # How far the face is turned in the view itself, by its roll.
    right = matrix[:, :2] @ (math.cos(roll), math.sin(roll))
    is_turned = (upright != 0 and upright < _TURNED) or right[0] < _TURNED * np.hypot(*right)
    found = {
        "turned": is_turned,
        "small": longer < _SMALL_PIXELS,
        **{f"no {name} found": True for name in missing},
        "cut by the picture's edge": to_edge < _CUT * longer,
        "unsure": certainty < _LEAST_CERTAINTY or (score is not None and score < _CERTAIN_SCORE),
    }
    logit = float(np.dot(_WEIGHTS, values)) + _BIAS
    return 1 / (1 + math.exp(-logit)), tuple(reason for reason, holds in found.items() if holds)


def measures(
    log_probabilities: np.ndarray,
    matrix: np.ndarray,
    box: tuple[float, float, float, float],
    label_set: LabelSet,
) -> tuple[float, float, float, float]:
    """Returns what the quality is made of, each 1 or 0 at its best.

    Args:
      log_probabilities: as `is_face` takes it.
      matrix: as `is_face` takes it.
      box: as `is_face` takes it.
      label_set: as `is_face` takes it.

    Returns:
      certainty: mean probability of the winning class where it is not the background, 0 to 1.
      evidence: mean over the features of the highest probability of each within the box, 0 to 1;
        1 for a set without features.
      upright: cosine of the angle between the way from eyes to mouth and the view's downwards;
        0 where either is not found, 1 for a set without them.
      smallness: binary logarithm of the longer side in hundreds of pixels, at most 0.
    """
    probabilities = np.exp(log_probabilities)
    winning = _patch(probabilities.max(-1), matrix, box)
    is_part = _patch((log_probabilities.argmax(-1) > 0).astype(np.float32), matrix, box) > 0.5
    certainty = float(winning[is_part].mean()) if is_part.any() else 0.0
    features = _features(log_probabilities, matrix, box, label_set)
    longer = max(box[2] - box[0], box[3] - box[1])
    smallness = min(0.0, math.log2(longer / _ENOUGH_PIXELS))
    return certainty, _evidence(features), _upright(features), smallness


def _parts(label_set: LabelSet) -> dict[str, list[int]]:
    """Returns the labels of each part of `_WORDS` that the set has."""
    parts: dict[str, list[int]] = {}
    for label, name in enumerate(label_set.classes):
        words = set(re.split("[^a-z]+", name.lower()))
        for part, known in _WORDS.items():
            if words & known:
                parts.setdefault(part, []).append(label)
                break
    return parts


def _known(parts: Mapping[str, object]) -> list[str]:
    return [name for name in _FEATURES if name in parts]


def _can_judge(label_set: LabelSet) -> bool:
    return len(_known(_parts(label_set))) >= _LEAST_FEATURES


def _probability(log_probabilities: np.ndarray, labels: list[int]) -> np.ndarray:
    """Returns float32 `[h, h]`: the probability that a cell is one of `labels`."""
    return np.exp(log_probabilities[..., labels]).sum(-1)


def _features(log_probabilities, matrix, box, label_set) -> dict[str, np.ndarray]:
    """Returns the probability of each feature that the set has, over the box: float32 patches."""
    parts = _parts(label_set)
    return {
        name: _patch(_probability(log_probabilities, parts[name]), matrix, box)
        for name in _known(parts)
    }


def _patch(values: np.ndarray, matrix: np.ndarray, box) -> np.ndarray:
    """Returns float32 samples of a view, level in it, over a box; 0 where the view does not reach.

    Args:
      values: float32 `[h, h]`.
      matrix: float64 `[2, 3]`, from pixels of the photograph to cells of the view.
      box: edges in pixels of the photograph, counted from its corner.
    """
    edges = np.asarray(box, np.float64) - 0.5
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    step = scale * _EXTENT * (edges[2:] - edges[:2]).max() / _SAMPLES
    first = matrix @ (*(edges[:2] + edges[2:]) / 2, 1) - step * (_SAMPLES - 1) / 2
    to_view = np.array([[step, 0, first[0]], [0, step, first[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(np.ascontiguousarray(values), to_view, (_SAMPLES, _SAMPLES), flags=flags)


def _has_sure_hair(log_probabilities: np.ndarray, label_set: LabelSet, within=None) -> bool:
    """Returns whether a view, or a (matrix, box) of it, has hair that is sure inside its edges."""
    labels = _parts(label_set).get("hair")
    if labels is None:
        return False
    probability = _probability(log_probabilities, labels)
    hair = np.isin(log_probabilities.argmax(-1), labels).astype(np.uint8)
    inside = cv2.erode(hair, np.ones((3, 3), np.uint8))
    if within is not None:
        probability, inside = _patch(probability, *within), _patch(inside, *within)
    inside = inside > 0
    return bool(inside.mean() >= _LEAST_AREA and probability[inside].mean() >= _SURE_HAIR)


def _evidence(features: Mapping[str, np.ndarray]) -> float:
    return float(np.mean([patch.max() for patch in features.values()])) if features else 1.0


def _upright(features: Mapping[str, np.ndarray]) -> float:
    upper = [features[name] for name in ("eyes", "brows") if name in features]
    lower = [features[name] for name in ("mouth", "nose") if name in features]
    if not upper or not lower:
        return 1.0
    ends = [next(filter(len, map(_centre, patches)), ()) for patches in (upper, lower)]
    if not len(ends[0]) or not len(ends[1]):
        return 0.0
    x, y = ends[1] - ends[0]
    return float(y / max(math.hypot(x, y), 1e-6))


def _is_arranged(features: Mapping[str, np.ndarray]) -> bool:
    """Returns whether a nose lies between eyes (or brows) and a mouth below them."""
    centres = {name: _centre(patch) for name, patch in features.items()}
    eyes = next((centres[name] for name in ("eyes", "brows") if len(centres.get(name, ()))), ())
    nose, mouth = centres.get("nose", ()), centres.get("mouth", ())
    if not len(eyes) or not len(nose) or not len(mouth):
        return False
    down = mouth - eyes
    along = (nose - eyes) @ down / max(down @ down, 1e-6)
    aside = abs((nose - eyes) @ (down[1], -down[0])) / max(down @ down, 1e-6)
    return bool(down[1] > abs(down[0]) and 0.2 < along < 1 and aside < 0.5)


def _centre(patch: np.ndarray) -> np.ndarray:
    """Returns float64 `[2]`, x and y of a feature's centre; `[0]` where there is none."""
    weights = np.where(patch > _FOUND / 2, patch, 0)
    total = weights.sum()
    if total < 4:
        return np.empty(0)
    y, x = np.mgrid[: len(patch), : len(patch)]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / total
