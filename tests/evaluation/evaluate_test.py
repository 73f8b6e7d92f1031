import json
import os
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
import sklearn.metrics
from ports import free_port

from dmlcsr_jax.data import batches as batches_lib
from dmlcsr_jax.data import geometry, label_sets, unwarp, warp
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.evaluation import evaluate, metrics

SIZE = 16
HELEN = label_sets.HELEN


def random_labels(count, seed=0):
    """Blocks of random classes at several sizes, some pixels to ignore."""
    rng = np.random.default_rng(seed)
    labels = []
    for i in range(count):
        hw = [(16, 16), (32, 24), (9, 20)][i % 3]
        label = rng.integers(0, 11, (hw[0] // 3 + 1, hw[1] // 3 + 1)).astype(np.uint8)
        label = np.kron(label, np.ones((3, 3), np.uint8))[: hw[0], : hw[1]]
        label[rng.random(hw) < 0.1] = 255
        labels.append(label)
    return labels


class Source:
    """Images whose red channel names them, so that a stand-in predictor can know its scores."""

    def __init__(self, count):
        self.labels = random_labels(count)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        label = self.labels[index]
        image = np.full((*label.shape, 3), index, np.uint8)
        return {"image": image, "label": label, "name": f"image_{index}"}


def scores_of(index):
    return np.random.default_rng(1000 + int(index)).normal(size=(SIZE, SIZE, 11)).astype(np.float32)


@jax.jit
def predict_fn(table, images):
    """Looks the scores up by the pixel in the middle."""
    return table[images[:, SIZE // 2, SIZE // 2, 0]]


@pytest.fixture(scope="module")
def table():
    return np.stack([scores_of(i) for i in range(256)])


def predicted(source, index):
    hw = source.labels[index].shape
    unwarped = unwarp.sample(
        scores_of(index), geometry.box_matrix(geometry.photograph_box(hw), SIZE), hw
    )
    return unwarped.argmax(axis=-1)


def batches(source, batch_size, **kwargs):
    return batches_lib.eval_batches(
        source, label_set=HELEN, image_size=SIZE, batch_size=batch_size, **kwargs
    )


def truth_and_prediction(source):
    pairs = [(source.labels[i].ravel(), predicted(source, i).ravel()) for i in range(len(source))]
    truth, prediction = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return truth[truth != 255], prediction[truth != 255]


@pytest.mark.parametrize(("count", "batch_size"), [(1, 4), (7, 3), (8, 4), (10, 16)])
def test_confusion_is_sklearns_at_the_labels_size(table, count, batch_size):
    source = Source(count)
    result = evaluate.evaluate(predict_fn, table, batches(source, batch_size), HELEN)
    expected = sklearn.metrics.confusion_matrix(*truth_and_prediction(source), labels=range(11))
    np.testing.assert_array_equal(result.confusion, expected)
    assert result.confusion.dtype == np.int64
    assert result.num_images == count
    near = [(label, predicted(source, i)) for i, label in enumerate(source.labels)]
    near = [np.stack(pair)[:, metrics.near_boundary(pair[0])] for pair in near]
    expected = sklearn.metrics.confusion_matrix(*np.concatenate(near, 1), labels=range(11))
    np.testing.assert_array_equal(result.boundary_confusion, expected)
    f1 = sklearn.metrics.f1_score(*truth_and_prediction(source), average=None, labels=range(11))
    assert result.metrics["mean_f1"] == pytest.approx(f1[1:].mean(), rel=1e-12)


def test_split_over_a_mesh_counts_the_same(table):
    source, mesh = Source(11), sharding.make_mesh()
    alone = evaluate.evaluate(predict_fn, table, batches(source, 4), HELEN)
    split = evaluate.evaluate(
        predict_fn,
        jax.device_put(table, sharding.replicated(mesh)),
        batches(source, 8),
        HELEN,
        mesh=mesh,
    )
    np.testing.assert_array_equal(split.confusion, alone.confusion)
    assert [r.name for r in split.worst] == [r.name for r in alone.worst]
    np.testing.assert_array_equal(split.boundary_confusion, alone.boundary_confusion)
    np.testing.assert_array_equal(split.image_scores, alone.image_scores)


def test_worst_images_come_with_their_own_mean_f1(table):
    source = Source(9)
    result = evaluate.evaluate(predict_fn, table, batches(source, 2), HELEN, num_worst=4)
    scores = {}
    for i in range(9):
        truth, prediction = source.labels[i].ravel(), predicted(source, i).ravel()
        truth, prediction = truth[truth != 255], prediction[truth != 255]
        present = sorted(set(truth) - {0})
        f1 = sklearn.metrics.f1_score(truth, prediction, labels=present, average="macro")
        scores[f"image_{i}"] = f1
    expected = sorted(scores, key=scores.get)[:4]
    assert [record.name for record in result.worst] == expected
    assert result.image_mean_f1 == pytest.approx(np.mean([*scores.values()]), rel=1e-12)
    assert result.metrics["image_mean_f1"] == result.image_mean_f1
    assert result.metrics["worst_tenth_mean_f1"] == pytest.approx(min(scores.values()), rel=1e-12)
    for record in result.worst:
        assert record.score == pytest.approx(scores[record.name], rel=1e-12)
        assert record.image.shape == (SIZE, SIZE, 3)
        assert record.image[SIZE // 2, SIZE // 2, 0] == record.index
        label = source.labels[record.index]
        matrix = geometry.box_matrix(geometry.photograph_box(label.shape), SIZE)
        np.testing.assert_array_equal(record.label, warp.warp_label(label, matrix, SIZE, 255))
        np.testing.assert_array_equal(
            record.prediction,
            warp.warp_label(predicted(source, record.index).astype(np.uint8), matrix, SIZE, 255),
        )


def test_image_without_parts_has_no_score_but_counts(table):
    source = Source(2)
    source.labels = [np.zeros((16, 16), np.uint8), source.labels[1]]
    result = evaluate.evaluate(predict_fn, table, batches(source, 2), HELEN)
    assert [record.name for record in result.worst] == ["image_1"]
    assert result.confusion[0].sum() == 256 + np.sum(source.labels[1] == 0)


def test_label_maps_are_applied_to_both_sides(table):
    source = Source(5)
    merged = label_sets.LabelSet(
        name="merged",
        classes=("background", "skin", "hair"),
        mirror_pairs=(),
        left_is="none",
        palette=((0, 0, 0), (1, 1, 1), (2, 2, 2)),
    )
    label_table = np.full(256, 255, np.uint8)
    label_table[:11] = [0, 1, 1, 1, 1, 1, 1, 1, 255, 1, 2]
    prediction_table = np.where(label_table == 255, 1, label_table).astype(np.uint8)
    result = evaluate.evaluate(
        predict_fn,
        table,
        batches(source, 4),
        merged,
        label_table=label_table,
        prediction_table=prediction_table,
    )
    truth, prediction = truth_and_prediction(source)
    prediction = prediction_table[prediction]
    truth = label_table[truth]
    expected = sklearn.metrics.confusion_matrix(truth[truth != 255], prediction[truth != 255])
    np.testing.assert_array_equal(result.confusion, expected)


def test_tick_is_called_once_a_batch_and_may_end_it(table):
    ticks = []

    class Stop(Exception):
        pass

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            raise Stop

    closed = []

    class Batches:
        def __iter__(self):
            yield from batches(Source(9), 2)

        def close(self):
            closed.append(1)

    with pytest.raises(Stop):
        evaluate.evaluate(predict_fn, table, Batches(), HELEN, tick=tick)
    assert len(ticks) == 3
    assert closed == [1]


def test_an_error_beside_the_device_is_raised(table):
    source = Source(3)
    source.labels[1][0, 0] = 77
    with pytest.raises(ValueError, match="77"):
        evaluate.evaluate(predict_fn, table, batches(source, 2), HELEN)


def test_image_score_of_a_known_matrix():
    confusion = np.zeros((11, 11), np.int64)
    confusion[1, 1], confusion[1, 0], confusion[10, 10] = 3, 1, 5
    # Skin: precision 1, recall 3/4, F1 6/7; hair 1; a spurious nose has no place in the mean.
    confusion[0, 6] = 9
    assert evaluate.image_score(confusion, HELEN) == pytest.approx((6 / 7 + 1) / 2)
    assert np.isnan(evaluate.image_score(np.zeros((11, 11), np.int64), HELEN))


_WORKER = """
import json, os, sys
sys.path[:0] = {tests!r}
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize("localhost:" + sys.argv[2], 2, int(sys.argv[1]))
import numpy as np
import evaluate_test as t
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.evaluation import evaluate
mesh = sharding.make_mesh()
table = np.stack([t.scores_of(i) for i in range(256)])
variables = jax.device_put(table, sharding.replicated(mesh))
source = t.Source(11)
batches = t.batches(
    source, 4, process_index=jax.process_index(), process_count=jax.process_count()
)
result = evaluate.evaluate(t.predict_fn, variables, batches, t.HELEN, mesh=mesh, num_worst=4)
big = evaluate.gather(np.array([2**40 + jax.process_index(), -1]))
print("RESULT" + json.dumps(dict(
    processes=jax.process_count(),
    confusion=result.confusion.tolist(), num_images=result.num_images,
    boundary_confusion=result.boundary_confusion.tolist(),
    image_scores=result.image_scores.tolist(),
    worst=[[r.index, r.name, r.score, r.image.tolist(), r.label.tolist(), r.prediction.tolist()]
           for r in result.worst], big=big.tolist())))
"""


def test_two_processes_count_every_image_once(table, pytestconfig):
    """11 images in batches of 4 do not divide by 2 processes; both must agree with one process."""
    alone = evaluate.evaluate(predict_fn, table, batches(Source(11), 4), HELEN, num_worst=4)
    port = free_port()
    code = textwrap.dedent(_WORKER).format(
        tests=[str(pytestconfig.rootpath / name) for name in ("tests/evaluation", "tests")]
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(i), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        )
        for i in range(2)
    ]
    results = []
    for process in processes:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        results.append(json.loads(output.split("RESULT")[1]))
    assert results[0] == results[1]
    assert results[0]["processes"] == 2
    np.testing.assert_array_equal(results[0]["confusion"], alone.confusion)
    assert results[0]["num_images"] == 11
    np.testing.assert_array_equal(results[0]["boundary_confusion"], alone.boundary_confusion)
    np.testing.assert_array_equal(results[0]["image_scores"], alone.image_scores)
    assert results[0]["big"] == [[2**40, -1], [2**40 + 1, -1]]
    for found, record in zip(results[0]["worst"], alone.worst, strict=True):
        assert found[:3] == [record.index, record.name, record.score]
        for values, key in zip(found[3:], ("image", "label", "prediction"), strict=True):
            np.testing.assert_array_equal(values, getattr(record, key))
