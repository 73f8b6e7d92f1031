import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from dmlcsr_jax.losses import cross_entropy, distillation
from dmlcsr_jax.self_regulation import soft_targets
from dmlcsr_jax.self_regulation import teacher as teacher_lib

IGNORE = 255


def _tree(rng):
    return {
        "edge": {"kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32)},
        "gamma": rng.normal(size=()).astype(np.float32),
    }


def test_averages_of_m_cycles_are_the_plain_mean_of_the_students():
    rng = np.random.default_rng(0)
    students = [_tree(rng) for _ in range(7)]
    teacher = jax.tree.map(np.zeros_like, students[0])
    average = jax.jit(teacher_lib.average)
    for m, student in enumerate(students):
        teacher = average(teacher, student, m)
        expected = jax.tree.map(
            lambda *leaves: np.mean(np.asarray(leaves, np.float64), axis=0), *students[: m + 1]
        )
        jax.tree.map(
            lambda t, e: np.testing.assert_allclose(t, e, rtol=1e-6, atol=1e-7), teacher, expected
        )


def test_first_teacher_is_the_student_bit_for_bit():
    rng = np.random.default_rng(1)
    teacher, student = _tree(rng), _tree(rng)
    jax.tree.map(np.testing.assert_array_equal, teacher_lib.average(teacher, student, 0), student)


def test_average_keeps_structure_and_dtypes():
    teacher = {"a": jnp.ones((2,), jnp.bfloat16), "b": jnp.ones((3,), jnp.float32)}
    mean = teacher_lib.average(teacher, jax.tree.map(jnp.zeros_like, teacher), 1)
    assert jax.tree.map(lambda leaf: leaf.dtype, mean) == {"a": jnp.bfloat16, "b": jnp.float32}
    np.testing.assert_array_equal(mean["b"], [0.5] * 3)


class _Net(nn.Module):
    """Two layers: the second layer's statistics depend on the first's normalisation."""

    @nn.compact
    def __call__(self, x, *, train):
        def norm(x):
            return nn.BatchNorm(use_running_average=not train, momentum=0.0)(x)

        hidden = nn.relu(norm(nn.Dense(4)(x)))
        return norm(nn.Dense(3)(hidden))


def test_reestimated_statistics_are_the_training_sets_by_hand():
    rng = np.random.default_rng(2)
    batches = rng.normal(1.0, 3.0, size=(5, 16, 2)).astype(np.float32)
    net = _Net()
    variables = net.init(jax.random.key(0), batches[0], train=True)
    params = variables["params"]
    stats = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    for k, batch in enumerate(batches):
        _, mutated = net.apply(
            {"params": params, "batch_stats": stats}, batch, train=True, mutable=["batch_stats"]
        )
        stats = teacher_lib.accumulate_statistics(stats, mutated["batch_stats"], k)

    def dense(name, x):
        return x @ np.float64(params[name]["kernel"]) + np.float64(params[name]["bias"])

    means, variances = {"0": [], "1": []}, {"0": [], "1": []}
    for batch in batches.astype(np.float64):
        first = dense("Dense_0", batch)
        hidden = np.maximum((first - first.mean(0)) / np.sqrt(first.var(0) + 1e-5), 0)
        for name, values in (("0", first), ("1", dense("Dense_1", hidden))):
            means[name].append(values.mean(0))
            variances[name].append(values.var(0))
    for name in ("0", "1"):
        layer = stats[f"BatchNorm_{name}"]
        np.testing.assert_allclose(layer["mean"], np.mean(means[name], 0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer["var"], np.mean(variances[name], 0), rtol=1e-5)

    # The first layer sees the data itself, so its mean is the training set's; its variance is the
    # set's less the spread of the batches' means.
    everything = dense("Dense_0", batches.reshape(-1, 2).astype(np.float64))
    layer = stats["BatchNorm_0"]
    np.testing.assert_allclose(layer["mean"], everything.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        layer["var"] + np.var(means["0"], axis=0), everything.var(0), rtol=1e-5
    )


def test_statistics_of_one_batch_replace_those_before():
    rng = np.random.default_rng(3)
    old, batch = _tree(rng), _tree(rng)
    jax.tree.map(
        np.testing.assert_array_equal, teacher_lib.accumulate_statistics(old, batch, 0), batch
    )


@pytest.mark.parametrize("m", [0, 1, 3])
def test_soft_targets_are_the_weighted_sum_of_teacher_and_label(m):
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(2, 3, 4, 5)).astype(np.float32) * 3
    label = rng.integers(0, 5, size=(2, 3, 4))
    label[0, 0] = IGNORE
    targets = jax.jit(soft_targets.soft_targets)(logits, label, m)
    hard = np.eye(5)[np.where(label == IGNORE, 0, label)]
    expected = m / (m + 1) * scipy.special.softmax(logits, axis=-1) + hard / (m + 1)
    expected[label == IGNORE] = 0
    assert targets.dtype == jnp.float32
    np.testing.assert_allclose(targets, expected, rtol=1e-5, atol=1e-7)


def test_no_gradient_reaches_the_teacher_through_the_soft_targets():
    rng = np.random.default_rng(5)
    student, teacher = rng.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    label = rng.integers(0, 5, size=(2, 3, 4))

    def loss(student, teacher):
        targets = soft_targets.soft_targets(teacher, label, 2)
        return distillation.distillation(student, targets, label)

    to_student, to_teacher = jax.jit(jax.grad(loss, argnums=(0, 1)))(student, teacher)
    assert np.abs(to_student).max() > 1e-3
    np.testing.assert_array_equal(to_teacher, 0)


def test_with_no_student_in_the_teacher_distillation_is_cross_entropy():
    rng = np.random.default_rng(6)
    student, teacher = rng.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    label = rng.integers(0, 5, size=(2, 3, 4))
    label[1, 2] = IGNORE

    def soft(logits):
        targets = soft_targets.soft_targets(teacher, label, 0)
        return distillation.distillation(logits, targets, label)

    def hard(logits):
        return cross_entropy.cross_entropy(logits, label)

    for got, expected in zip(
        jax.tree.leaves(jax.jit(jax.value_and_grad(soft))(student)),
        jax.tree.leaves(jax.jit(jax.value_and_grad(hard))(student)),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


def test_a_student_that_equals_its_teacher_and_label_loses_nothing():
    logits = np.full((1, 2, 2, 3), -100.0, np.float32)
    label = np.asarray([[[0, 1], [2, 1]]])
    np.put_along_axis(logits, label[..., None], 100.0, axis=-1)
    targets = soft_targets.soft_targets(logits, label, 1)
    assert float(jax.jit(distillation.distillation)(logits, targets, label)) == 0.0
