"""A byte that changes on disk is noticed, a value that cannot be is refused."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
from small_checkpoints import (
    METADATA,
    assert_same,
    make_state,
    random_variables,
    restore_run,
    save_run,
)

from dmlcsr_jax.checkpoints import digests, model, run
from dmlcsr_jax.distributed import sharding
from dmlcsr_jax.errors import UserError


@pytest.fixture(scope="module")
def state():
    return make_state(0, 4)


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    """A run's checkpoint: a model, and what training needs."""
    folder = tmp_path_factory.mktemp("run")
    checkpoints = run.RunCheckpoints(folder, keep=2)
    save_run(checkpoints, state, {"note": 4})
    checkpoints.close()
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def values_file(item):
    """The file that holds an item's tensors."""
    files = [path for path in item.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path, share):
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 0x10
    path.write_bytes(data)


def restore(folder, state):
    checkpoints = run.RunCheckpoints(folder, keep=2)
    abstract = jax.eval_shape(lambda: state)
    return restore_run(
        checkpoints, abstract, sharding.state_sharding(abstract, sharding.make_mesh(), fsdp=True)
    )


def test_the_digest_is_of_the_elements():
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = hashlib.sha256(value.tobytes()).hexdigest()
    assert digests.tensor_digest(value) == f"float32 2x3 {expected}"
    assert digests.tensor_digest(value.T.copy().T) == f"float32 2x3 {expected}"
    assert digests.tensor_digest(np.int32(3)).startswith("int32 scalar ")
    mesh = sharding.make_mesh()
    split = jax.device_put(np.arange(16, dtype=np.float32), sharding.batch_sharding(mesh))
    whole = digests.tensor_digest(np.arange(16, dtype=np.float32))
    assert digests.digests({"a": split}) == {"a": whole}


@pytest.mark.parametrize("share", [0.05, 0.4, 0.7, 0.95])
def test_a_flipped_byte_of_the_values_is_noticed(copy, state, share):
    path = copy / "checkpoints" / "4"
    flip(values_file(path / "model"), share)
    try:
        _, loaded = model.load_model(path)
    except UserError:
        return
    assert_same(loaded, state.eval_variables)  # between two tensors


def test_a_changed_value_is_named_by_its_tensor(copy):
    path = copy / "checkpoints" / "4"
    sums = json.loads((path / "sha256/metadata").read_text())
    name = next(iter(sums["model"]))
    sums["model"][name] = sums["model"][name][:-1] + "g"
    (path / "sha256/metadata").write_text(json.dumps(sums))
    with pytest.raises(UserError, match=f"{path} .*the tensor {name} is not the one") as refused:
        model.load_model(path)
    assert len(str(refused.value).splitlines()) == 1


def test_of_a_run_the_optimiser_and_the_teacher_too(copy, state):
    assert_same(restore(copy, state), state)
    flip(values_file(copy / "checkpoints/4/train"), 0.4)
    with pytest.raises(UserError, match=r"checkpoints/4 .*; remove it to go on"):
        restore(copy, state)


@pytest.mark.parametrize(
    ("field", "value"), [("image_size", 64), ("channel_order", "rgb"), ("mean", [0.0, 0.1, 0.2])]
)
def test_changed_metadata_is_noticed(copy, field, value):
    path = copy / "checkpoints/4/metadata/metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(UserError, match="its metadata is not what was saved"):
        model.load_model(copy / "checkpoints/4")


def test_a_changed_progress_is_noticed(copy):
    path = copy / "checkpoints/4/progress/metadata"
    path.write_text(json.dumps({"note": 5}))
    with pytest.raises(UserError, match="its progress is not what was saved"):
        run.RunCheckpoints(copy, keep=2).read_progress()


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}'])
def test_damaged_check_sums_are_said(copy, content):
    (copy / "checkpoints/4/sha256/metadata").write_text(content)
    with pytest.raises(UserError, match="checkpoints/4"):
        model.load_model(copy / "checkpoints/4")


def test_an_older_checkpoint_loads_and_it_is_said_once(copy, state, caplog):
    shutil.rmtree(copy / "checkpoints/4/sha256")
    for load in (lambda: model.load_model(copy / "checkpoints/4"), lambda: restore(copy, state)):
        caplog.clear()
        load()
        assert [r.message for r in caplog.records if r.name.startswith("dmlcsr")] == [
            f"the checkpoint {copy}/checkpoints/4 has no check sums of its tensors, as older "
            "versions wrote none: it is taken as it is."
        ]


IMPOSSIBLE = [
    ("params/context/conv_out/conv/kernel", np.nan, "not finite"),
    ("params/context/conv_out/conv/kernel", -np.inf, "not finite"),
    ("batch_stats/encoder/bn1/var", -1.0, "variance -1, which is below 0"),
]


def changed(variables, name, value):
    def change(path, leaf):
        if model.leaf_name(path) != name:
            return leaf
        leaf = leaf.copy()
        leaf.flat[0] = value
        return leaf

    return jax.tree_util.tree_map_with_path(change, variables)


@pytest.mark.parametrize(("name", "value", "message"), IMPOSSIBLE)
def test_impossible_values_are_not_saved(tmp_path, name, value, message):
    variables = random_variables(METADATA)
    assert name in model.named_leaves(variables)
    with pytest.raises(UserError, match=f"{name} .*{message}"):
        model.save_model(tmp_path / "model", METADATA, **changed(variables, name, value))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("name", "value", "message"), IMPOSSIBLE[1:])
def test_impossible_values_are_not_loaded(tmp_path, name, value, message):
    checkpoints = run.RunCheckpoints(tmp_path, keep=1)
    checkpoints.save_best(1, METADATA, changed(random_variables(METADATA), name, value))
    checkpoints.close()
    with pytest.raises(UserError, match=f"best/1.*{name} .*{message}"):
        model.load_model("best", tmp_path)
