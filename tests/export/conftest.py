"""Networks with random parameters, exported, and what their labels should be."""

import dataclasses

import jax
import numpy as np
import pytest
import small_checkpoints

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.data import geometry, synthetic, unwarp
from dmlcsr_jax.export import program
from dmlcsr_jax.models.dmlcsr import build_model
from dmlcsr_jax.models.scores import at_input_size, make_predict_fn

TINY = dataclasses.replace(
    small_checkpoints.METADATA, width=0.5, edge_branch=False, license="for tests"
)


def save_random(path, metadata):
    """Writes a checkpoint whose features keep their scale from layer to layer."""
    rng = np.random.default_rng(1)

    def random(name, leaf):
        if model.leaf_name(name).endswith(("var", "scale")):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        scale = 0.01 if "logits" in model.leaf_name(name) else 1.0
        return (scale * np.sqrt(2 / fan_in) * rng.normal(size=leaf.shape)).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(random, model.abstract_variables(metadata))
    model.save_model(path, metadata, variables["params"], variables["batch_stats"])
    return path


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory):
    """Writes a checkpoint of random parameters, as `TINY` but for what is said."""

    def save(**fields):
        path = tmp_path_factory.mktemp("random") / "model"
        return save_random(path, dataclasses.replace(TINY, **fields))

    return save


@pytest.fixture(scope="session")
def tiny_checkpoint(random_checkpoint):
    return random_checkpoint()


@pytest.fixture(scope="session")
def truth_of():
    return Truth


@pytest.fixture(scope="session")
def tiny_truth(tiny_checkpoint):
    return Truth(tiny_checkpoint)


@pytest.fixture(scope="session")
def faces():
    """Drawn faces: a square, portrait and landscape, smaller and larger than the input."""
    sides = [(32, 32), (75, 50), (21, 29), (40, 130)]
    return [
        synthetic.draw_face(seed, max(hw))[0][: hw[0], : hw[1]] for seed, hw in enumerate(sides)
    ]


class Truth:
    """Scores by the network in JAX, mapped back by OpenCV instead of by matrices."""

    def __init__(self, checkpoint):
        self.metadata, self.variables = model.load_model(checkpoint)
        self._predict = make_predict_fn(build_model(self.metadata), self.metadata)

    def input_scores(self, images):
        """Returns float32 `[B, S, S, C]` of uint8 `[B, S, S, 3]`."""
        return np.asarray(at_input_size(self._predict(self.variables, images), images.shape[1]))

    def scores(self, image):
        """Returns float32 `[H, W, C]` of a photograph."""
        size, hw = self.metadata.image_size, image.shape[:2]
        shown = np.asarray(program.fit(image[None], size)).astype(np.uint8)
        matrix = geometry.box_matrix(geometry.photograph_box(hw), size)
        return unwarp.sample(self.input_scores(shown)[0], matrix, hw)

    def assert_agrees(self, image, labels):
        """Asserts that every pixel has its best class, but where two are as good."""
        scores = self.scores(image)
        second, best = np.sort(scores, axis=-1)[..., -2:].transpose(2, 0, 1)
        assert labels.dtype == np.uint8
        assert labels.shape == image.shape[:2]
        sure = best - second > 1e-3
        assert sure.mean() > 0.9
        np.testing.assert_array_equal(labels[sure], scores.argmax(-1)[sure])
