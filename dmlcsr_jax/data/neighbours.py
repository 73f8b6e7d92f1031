"""Photographs beside another person's: two faces in a view, each with his own parts.

A neighbour's parts are labelled as his own, not as background: what the network says of a pixel
does not hang on whose face a view was made for. Whose face it is prediction decides, from all
views together.
"""

import cv2
import numpy as np


class NeighbourSource:
    """A source some of whose photographs have another of them at one side.

    Args:
      source: the photographs, see `sources`; without boxes.
      prob: probability that a photograph has a neighbour.
      seed: which have, and whom.
    """

    def __init__(self, source, prob: float, seed: int):
        self._source = source
        self._prob = prob
        self._seed = seed

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict:
        """Reads example `index`, and with it its neighbour."""
        example = _of_one_size(self._source[index])
        rng = np.random.default_rng((self._seed, index))
        if rng.random() >= self._prob:
            return example
        other = _of_one_size(self._source[int(rng.integers(len(self)))])
        height = len(example["image"])
        side = [example, _of_height(other, height)][:: 1 if rng.random() < 0.5 else -1]
        return {
            "image": np.concatenate([each["image"] for each in side], axis=1),
            "label": np.concatenate([each["label"] for each in side], axis=1),
            "name": example["name"],
        }


def _of_one_size(example: dict) -> dict:
    """Returns an example whose label has its image's size."""
    size = example["image"].shape[1::-1]
    label = cv2.resize(example["label"], size, interpolation=cv2.INTER_NEAREST)
    return {"image": example["image"], "label": label, "name": example["name"]}


def _of_height(example: dict, height: int) -> dict:
    old_height, old_width = example["label"].shape
    size = (max(1, round(old_width * height / old_height)), height)
    return example | {
        "image": cv2.resize(example["image"], size, interpolation=cv2.INTER_AREA),
        "label": cv2.resize(example["label"], size, interpolation=cv2.INTER_NEAREST),
    }
