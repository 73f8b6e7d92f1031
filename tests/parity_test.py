"""Parity with the released network: golden files, and PyTorch written from the specification."""

import functools
import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_torch
import torch

from dmlcsr_jax import models
from dmlcsr_jax.convert_torch import names
from dmlcsr_jax.data import label_sets, sources
from dmlcsr_jax.losses import objective
from dmlcsr_jax.training import optimizer as optimizer_lib

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])
OUTPUTS = ("parsing", "binary_edge", "category_edge")


def _variables(model, state_dict):
    """The network's variables from a state_dict of NumPy arrays."""
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    abstract = jax.eval_shape(
        lambda images: model.init(jax.random.key(0), images, train=True), images
    )
    variables = {}
    for tensor in names.tensors(abstract):
        if tensor.torch_name in state_dict:
            value = names.from_torch_layout(tensor.path, state_dict[tensor.torch_name])
            names.insert(variables, tensor.path, value)
    return variables


def _assert_float32_parity(got, expected):
    """Logits `[..., C]`: 1e-3 absolute, argmax wherever the best two differ by more than 2e-3."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)
    best = np.sort(expected, axis=-1)
    sure = best[..., -1] - best[..., -2] > 2e-3
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(got.argmax(-1)[sure], expected.argmax(-1)[sure])


def _assert_bfloat16_parity(got, expected):
    assert (got.argmax(-1) == expected.argmax(-1)).mean() >= 0.98


_ASSERT_PARITY = {"float32": _assert_float32_parity, "bfloat16": _assert_bfloat16_parity}


# --- The released network's own outputs -----------------------------------------------------------


@pytest.fixture(scope="session")
def golden(shared_dir):
    """Weights by PyTorch name, normalised BGR image `[1, H, W, 3]`, outputs `[h, w, C]` by name."""
    folder = shared_dir / "parity"
    namespace = {}
    exec((folder / "torch_style_weights.py").read_text(), namespace)
    stored = np.load(folder / "reference_outputs_11_classes.npz")
    shapes = json.loads((folder / "state_dict_shapes_11_classes.json").read_text())
    weights = namespace["draw"](shapes, seed=int(stored["seed"]))
    weights |= {
        key.removeprefix("stats/"): stored[key] for key in stored if key.startswith("stats/")
    }
    image = (stored["image_bgr"][None] / 255 - MEAN) / STD
    outputs = {name: np.moveaxis(stored[name], 0, -1) for name in OUTPUTS}
    return shapes, weights, image.astype(np.float32), outputs


def test_every_tensor_of_the_released_network_has_its_place(golden):
    shapes, _, _, _ = golden
    model = models.DMLCSR("resnet101", 11)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    abstract = jax.eval_shape(
        lambda images: model.init(jax.random.key(0), images, train=True), images
    )
    named = {t.torch_name: list(t.torch_shape) for t in names.tensors(abstract)}
    assert list(named.items()) == list(shapes.items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_outputs_are_the_released_networks(golden, dtype):
    _, weights, image, expected = golden
    model = models.DMLCSR("resnet101", 11, dtype=dtype)
    variables = _variables(model, weights)
    outputs = jax.jit(functools.partial(model.apply, train=False, edges=True))(variables, image)
    for name in OUTPUTS:
        _ASSERT_PARITY[dtype](np.asarray(outputs[name][0]), expected[name])


# --- A PyTorch network written from the specification ---------------------------------------------


def _calibrated(num_classes, hw, *, seed, edges=True, **architecture):
    """A float64 reference network with drawn weights and its own batch's running statistics."""
    torch.manual_seed(seed)
    network = reference_torch.Network(num_classes, edges=edges, **architecture).double()
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(draw(*parameter.shape) * (2 / parameter[0].numel()) ** 0.5)
            elif "gamma" in name:
                parameter.copy_(0.5 + 0.1 * draw(1))
            elif name.endswith("weight"):
                sign = torch.where(torch.rand(parameter.shape, generator=generator) < 0.1, -1, 1)
                parameter.copy_((1 + 0.2 * draw(*parameter.shape)) * sign)
                last = name.startswith("layer") and name.split(".")[-2] == (
                    "bn3" if network.layer1[0].bottleneck else "bn2"
                )
                parameter.mul_(0.3 if last else 1)
            else:
                parameter.copy_(0.1 * draw(*parameter.shape))
        norms = [m for m in network.modules() if hasattr(m, "running_mean")]
        for norm in norms:
            norm.momentum = 1.0
        images = draw(4, 3, *hw)
        network.train()(images)
        for norm in norms:
            norm.momentum = 0.1
    return network.eval(), np.moveaxis(images.numpy(), 1, -1)


def _state(network, dtype=np.float32):
    return {
        name: value.numpy().astype(dtype)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def _channels_last(outputs):
    return {name: np.moveaxis(x.detach().numpy(), 1, -1) for name, x in outputs.items()}


NARROW_RESNET18 = {
    "bottleneck": False,
    "num_blocks": (2, 2, 2, 2),
    "conv7": True,
    "stem": (16, 16, 32),
    "planes": (16, 32, 64, 128),
    "features": 128,
    "states": 64,
    "nodes": 32,
    "head": 64,
    "low": 16,
}

CASES = {
    "19 classes, upright": ("tiny", 1.0, 19, (129, 97), True, reference_torch.TINY),
    "5 classes, wide, no edge branch": ("tiny", 1.0, 5, (97, 161), False, reference_torch.TINY),
    "resnet18 with the 7x7 stem, narrow": ("resnet18", 0.25, 7, (96, 128), True, NARROW_RESNET18),
}
SLOW_CASES = {
    "resnet101, 19 classes, no edge branch": ("resnet101", 1.0, 19, (129, 193), False, {}),
    "resnet50": ("resnet50", 1.0, 2, (161, 97), True, {"num_blocks": (3, 4, 6, 3)}),
}


@pytest.mark.parametrize(
    "case",
    [
        *CASES.values(),
        *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES.values()),
    ],
    ids=[*CASES, *SLOW_CASES],
)
def test_outputs_are_the_reference_networks(case):
    encoder, width, num_classes, hw, edges, architecture = case
    network, images = _calibrated(num_classes, hw, seed=1, edges=edges, **architecture)
    images = images[:2]
    with torch.no_grad():
        expected = _channels_last(network(torch.from_numpy(np.moveaxis(images, -1, 1))))
    assert set(expected) == (set(OUTPUTS) if edges else {"parsing"})
    stem = "conv7" if architecture.get("conv7") else "deep"
    for dtype, assert_parity in _ASSERT_PARITY.items():
        model = models.DMLCSR(encoder, num_classes, width=width, stem=stem, dtype=dtype)
        variables = _variables(model, _state(network))
        apply = jax.jit(functools.partial(model.apply, train=False, edges=edges))
        outputs = apply(variables, images.astype(np.float32))
        assert set(outputs) == set(expected)
        for name, logits in expected.items():
            assert_parity(np.asarray(outputs[name]), logits)


# --- Training -------------------------------------------------------------------------------------

RATE, MOMENTUM, WEIGHT_DECAY = 1e-3, 0.9, 5e-4


def _photographs(shared_dir, count, size):
    """Real photographs: images float64 `[B, H, W, 3]` normalised, labels int32 `[B, H, W]`."""
    folder = shared_dir / "data" / "celebamask_hq_mini"
    source = sources.FolderSource(folder, "train", label_sets.get("celebamask_hq"))
    examples = [source[i] for i in range(count)]
    images = [cv2.resize(e["image"], size, interpolation=cv2.INTER_AREA) for e in examples]
    labels = [cv2.resize(e["label"], size, interpolation=cv2.INTER_NEAREST) for e in examples]
    labels = np.stack(labels).astype(np.int32)
    labels[:, :3] = 255
    return (np.stack(images) / 255 - MEAN) / STD, labels


class _TorchTraining:
    """The reference network under PyTorch's SGD."""

    def __init__(self, network, images, labels):
        self.network = network.train()
        self.images = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self.optimizer = torch.optim.SGD(
            network.parameters(), RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )

    def step(self):
        """Returns the terms and the gradients by name, as float64."""
        self.optimizer.zero_grad()
        total, terms = reference_torch.objective(self.network(self.images), self.labels)
        total.backward()
        gradients = {
            name: parameter.grad.double().numpy().copy()
            for name, parameter in self.network.named_parameters()
        }
        self.optimizer.step()
        return {name: term.item() for name, term in terms.items()}, gradients


def _jax_step(model):
    optimizer = optimizer_lib.optimizer(RATE, MOMENTUM, WEIGHT_DECAY)

    @jax.jit
    def step(params, batch_stats, opt_state, images, labels):
        def loss(params):
            outputs, updated = model.apply(
                {"params": params, "batch_stats": batch_stats},
                images,
                train=True,
                mutable=["batch_stats"],
            )
            total, terms = objective.objective(outputs, labels, weights=reference_torch.WEIGHTS)
            return total, (terms, updated["batch_stats"])

        gradients, (terms, batch_stats_) = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        params = jax.tree.map(jnp.add, params, updates)
        return params, batch_stats_, opt_state, terms, gradients

    return step, optimizer


def _by_torch_name(**trees):
    return {
        tensor.torch_name: names.to_torch_layout(
            tensor.path,
            np.asarray(functools.reduce(lambda tree, key: tree[key], tensor.path, trees)),
        )
        for tensor in names.tensors(trees)
    }


def _assert_close(got, expected, relative, what):
    """Every tensor to `relative` of its largest entry.

    Tensors that are 0 but for rounding (biases right before a norm) have none to speak of: their
    entries are held against the largest of all tensors, a millionth as tightly.
    """
    assert set(got) == set(expected)
    largest = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        tolerance = relative * max(np.abs(value).max(), 1e-6 * largest)
        error = np.abs(got[name] - value).max()
        assert error <= tolerance, f"{what} {name}: off by {error:g}, allowed {tolerance:g}"


def _assert_training_parity(encoder, architecture, images, labels):
    network, _ = _calibrated(19, images.shape[1:3], seed=2, **architecture)
    with jax.enable_x64(True):
        model = models.DMLCSR(encoder, 19, dtype="float64")
        variables = _variables(model, _state(network, np.float64))
        params, batch_stats = variables["params"], variables["batch_stats"]
        step, optimizer = _jax_step(model)
        opt_state = optimizer.init(params)
        reference = _TorchTraining(network, images, labels)
        for number in range(3):
            params, batch_stats, opt_state, terms, gradients = step(
                params, batch_stats, opt_state, images, labels
            )
            expected_terms, expected_gradients = reference.step()
            assert set(terms) == set(expected_terms)
            for name, term in expected_terms.items():
                assert terms[name].dtype == jnp.float64
                assert float(terms[name]) == pytest.approx(term, rel=1e-6), (number, name)
            _assert_close(
                _by_torch_name(params=gradients),
                expected_gradients,
                1e-6,
                f"step {number + 1}, gradient",
            )
            _assert_close(
                _by_torch_name(params=params, batch_stats=batch_stats),
                _state(reference.network, np.float64),
                1e-6,
                f"step {number + 1}, tensor",
            )


def test_training_steps_are_pytorchs_in_float64(shared_dir):
    images, labels = _photographs(shared_dir, 3, (97, 97))
    _assert_training_parity("tiny", reference_torch.TINY, images, labels)


@pytest.mark.slow
def test_training_steps_of_resnet101_are_pytorchs_in_float64(shared_dir):
    images, labels = _photographs(shared_dir, 2, (97, 97))
    _assert_training_parity("resnet101", {}, images, labels)


def test_loss_terms_are_pytorchs_in_float32(shared_dir):
    images, labels = _photographs(shared_dir, 3, (97, 97))
    images = images.astype(np.float32)
    network, _ = _calibrated(19, (97, 97), seed=2, **reference_torch.TINY)
    model = models.DMLCSR("tiny", 19)

    @jax.jit
    def terms_of(variables, images, labels):
        outputs, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return objective.objective(outputs, labels, weights=reference_torch.WEIGHTS)[1]

    terms = terms_of(_variables(model, _state(network)), images, labels)
    expected, _ = _TorchTraining(network.float(), images, labels).step()
    assert set(terms) == set(expected)
    for name, term in expected.items():
        assert float(terms[name]) == pytest.approx(term, rel=1e-4), name
