"""The network: sizes, counts, branches, precisions."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from colour_network import METADATA

from dmlcsr_jax import models
from dmlcsr_jax.checkpoints.model import for_inference
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models import layers
from dmlcsr_jax.models.resnet import ARCHITECTURES, ResNet


def _abstract(model, hw=(96, 96), batch=1):
    images = jax.ShapeDtypeStruct((batch, *hw, 3), jnp.float32)
    return images, jax.eval_shape(
        lambda images: model.init(jax.random.key(0), images, train=True), images
    )


def _count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_papers_network_has_its_parameters():
    _, variables = _abstract(models.DMLCSR("resnet101", 11))
    params = variables["params"]
    assert _count(params) == 68_544_242
    assert _count({name: tree for name, tree in params.items() if name != "edge"}) == 68_058_157
    assert _count(variables["batch_stats"]["edge"]) == 2 * 3 * 256


def _multiply_adds(jaxpr):
    """Nominal multiply-adds of the convolutions and matrix products, without resizing's."""
    total = 0
    for equation in jaxpr.eqns:
        out = equation.outvars[0].aval
        if equation.primitive.name == "conv_general_dilated":
            total += out.size * math.prod(equation.invars[1].aval.shape[:-1])
        elif equation.primitive.name == "dot_general" and equation.params["precision"] is None:
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += out.size * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            total += _multiply_adds(inner) if hasattr(inner, "eqns") else 0
    return total


def test_the_papers_network_has_its_operations():
    model = models.DMLCSR("resnet101", 11)
    images, variables = _abstract(model, (473, 473))

    def infer(variables, images):
        return model.apply(variables, images, train=False)

    nominal = 2 * _multiply_adds(jax.make_jaxpr(infer)(variables, images).jaxpr)
    assert nominal / 1e9 == pytest.approx(505.6, abs=0.05)
    # XLA leaves out the products with padding, and counts everything else too.
    cost = jax.jit(infer).lower(variables, images).cost_analysis()
    assert cost["flops"] / 1e9 == pytest.approx(505.6, rel=0.02)


@pytest.mark.parametrize("stem", ["deep", "conv7"])
@pytest.mark.parametrize("encoder", sorted(ARCHITECTURES))
def test_every_encoder_has_the_same_strides_and_builds(encoder, stem):
    images = jax.ShapeDtypeStruct((2, 97, 130, 3), jnp.float32)
    norm = functools.partial(layers.ABN, use_running_average=True)
    features, _ = jax.eval_shape(
        lambda images: ResNet(encoder, stem, 1.0, layers.conv, norm).init_with_output(
            jax.random.key(0), images
        ),
        images,
    )
    planes, factor = ARCHITECTURES[encoder].planes, 4 if ARCHITECTURES[encoder].bottleneck else 1
    assert [x.shape for x in features] == [
        (2, *hw, factor * p)
        for hw, p in zip([(25, 33), (13, 17), (13, 17), (13, 17)], planes, strict=True)
    ]
    outputs, _ = jax.eval_shape(
        lambda images: models.DMLCSR(encoder, 7, stem=stem).init_with_output(
            jax.random.key(0), images, train=True
        ),
        images,
    )
    assert {name: x.shape for name, x in outputs.items()} == {
        "parsing": (2, 25, 33, 7),
        "binary_edge": (2, 25, 33, 2),
        "category_edge": (2, 25, 33, 7),
    }


def test_tiny_has_about_a_million_parameters_and_width_scales_everything():
    tiny = _count(_abstract(models.DMLCSR("tiny", 11))[1]["params"])
    assert 0.8e6 < tiny < 1.2e6
    double = _count(_abstract(models.DMLCSR("tiny", 11, width=2.0))[1]["params"])
    assert 3.5 < double / tiny < 4.1


@pytest.fixture(scope="module")
def tiny():
    model = models.DMLCSR("tiny", 5)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 64, 48, 3)), jnp.float32)
    return model, models.initial_variables(model, 0, 64), images


def test_inference_has_no_edge_branch_and_does_without_its_parameters(tiny):
    model, variables, images = tiny
    apply = jax.jit(model.apply, static_argnames=("train", "edges"))
    both = apply(variables, images, train=False, edges=True)
    assert set(both) == {"parsing", "binary_edge", "category_edge"}
    dropped = {
        name: {branch: tree for branch, tree in tree.items() if branch != "edge"}
        for name, tree in variables.items()
    }
    alone = apply(dropped, images, train=False)
    assert set(alone) == {"parsing"}
    np.testing.assert_allclose(alone["parsing"], both["parsing"], atol=1e-5)


def test_without_the_dual_graph_its_parameters_alone_are_missing():
    _, complete = _abstract(models.DMLCSR("tiny", 7))
    _, without = _abstract(models.DMLCSR("tiny", 7, dual_graph=False))
    graph = _count(complete["params"]["context"].pop("graph"))
    assert graph > 10_000
    assert jax.tree.map(jnp.shape, complete["params"]) == jax.tree.map(jnp.shape, without["params"])


def test_edges_that_are_fed_back_decide_the_labels_and_stay_for_inference():
    metadata = dataclasses.replace(METADATA, edge_feedback=True)
    model = models.build_model(metadata)
    images = jax.random.normal(jax.random.key(1), (1, 64, 64, 3))
    variables = models.initial_variables(model, 0, 64)
    apply = jax.jit(functools.partial(model.apply, train=False))
    outputs = apply(variables, images)
    assert set(outputs) == {"parsing"}
    kept = for_inference(metadata, variables)
    assert _count(kept) == _count(variables)
    kernel = kept["params"]["edge"]["binary_logits"]["kernel"]
    kept["params"]["edge"]["binary_logits"] |= {"kernel": kernel + 1}
    assert jnp.abs(apply(kept, images)["parsing"] - outputs["parsing"]).max() > 1e-3
    plain = for_inference(METADATA, variables)
    assert _count(plain["params"]) < _count(variables["params"])


@pytest.mark.parametrize(
    ("encoder", "new"),
    [("tiny", {"middle", "deep"}), ("efficientnet_lite0", {"deep"})],
)
def test_a_parsing_head_of_all_depths_has_one_convolution_for_each_more(encoder, new):
    options = {"output_stride": 16} if encoder == "efficientnet_lite0" else {}
    _, without = _abstract(models.DMLCSR(encoder, 7, **options))
    _, complete = _abstract(models.DMLCSR(encoder, 7, multi_scale_parsing=True, **options))
    head, plain = complete["params"].pop("parsing"), without["params"].pop("parsing")
    assert jax.tree.map(jnp.shape, complete["params"]) == jax.tree.map(jnp.shape, without["params"])
    assert head.keys() - plain.keys() == new
    channels = head["deep"]["conv"]["kernel"].shape[-1]
    inputs = [tree["fuse0"]["conv"]["kernel"].shape[2] for tree in (head, plain)]
    assert inputs[0] - inputs[1] == channels * len(new)


def test_all_depths_decide_the_labels_and_no_edge_does():
    model = models.build_model(dataclasses.replace(METADATA, multi_scale_parsing=True))
    images = jax.random.normal(jax.random.key(1), (1, 64, 64, 3))
    variables = models.initial_variables(model, 0, 64)
    apply = jax.jit(model.apply, static_argnames=("train", "edges"))
    labels = apply(variables, images, train=False, edges=True)["parsing"]
    kept = for_inference(METADATA, variables)
    assert "edge" not in kept["params"]
    np.testing.assert_allclose(apply(kept, images, train=False)["parsing"], labels, atol=1e-5)
    for name in ("middle", "deep"):
        head = kept["params"]["parsing"]
        changed = head | {name: jax.tree.map(lambda leaf: leaf + 1, head[name])}
        other = kept | {"params": kept["params"] | {"parsing": changed}}
        assert jnp.abs(apply(other, images, train=False)["parsing"] - labels).max() > 1e-3


def test_bfloat16_trains_with_float32_state_and_logits(tiny):
    model, variables, images = tiny
    model = model.clone(dtype="bfloat16")

    def loss(params):
        outputs, updated = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        return sum(jnp.square(x).mean() for x in outputs.values()), (outputs, updated)

    gradient, (outputs, updated) = jax.eval_shape(jax.grad(loss, has_aux=True), variables["params"])
    for leaf in jax.tree.leaves((gradient, outputs, updated)):
        assert leaf.dtype == jnp.float32
    jaxpr = str(jax.make_jaxpr(loss)(variables["params"]))
    convolutions = [line for line in jaxpr.splitlines() if "= conv_general_dilated" in line]
    assert convolutions
    assert all(":bf16[" in line for line in convolutions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder": "resnet34"}, "resnet34"),
        ({"stem": "wide"}, "wide"),
        ({"dtype": "float16"}, "float16"),
        ({"width": 0.0}, "positive"),
    ],
)
def test_impossible_values_are_named(arguments, message):
    dtype = arguments.pop("dtype", "float32")
    with pytest.raises(UserError, match=message):
        models.build_model(dataclasses.replace(METADATA, **arguments), dtype)


def test_a_label_set_of_one_class_makes_no_network():
    with pytest.raises(UserError, match="must be 2 to 255"):
        dataclasses.replace(label_sets.HELEN, classes=("face",))
