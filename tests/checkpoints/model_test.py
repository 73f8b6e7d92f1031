"""A model's checkpoint: bit for bit back, found by name, refused in one sentence."""

import dataclasses
import json
import shutil

import pytest
from small_checkpoints import METADATA, assert_same, make_state, random_variables, save_run

from dmlcsr_jax.checkpoints import model, run
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError


@pytest.mark.parametrize("edge_branch", [True, False])
def test_a_model_comes_back_bit_for_bit(tmp_path, edge_branch):
    metadata = dataclasses.replace(METADATA, edge_branch=edge_branch)
    variables = random_variables(metadata)
    assert ("edge" in variables["params"]) == edge_branch
    model.save_model(tmp_path / "model", metadata, **variables)
    loaded_metadata, loaded = model.load_model(tmp_path / "model")
    assert loaded_metadata == metadata
    assert_same(loaded, variables)


def test_a_model_is_not_overwritten(tmp_path):
    variables = random_variables(METADATA)
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="exists already"):
        model.save_model(tmp_path / "model", METADATA, **variables)


def test_a_model_of_another_class_count_is_refused_by_its_tensor(tmp_path):
    variables = random_variables(METADATA)
    other = dataclasses.replace(METADATA, label_set=label_sets.get("celebamask_hq"))
    with pytest.raises(UserError, match=r"params/edge/binary_logits/kernel .*33, 2.*57, 2"):
        model.save_model(tmp_path / "model", other, **variables)
    assert not (tmp_path / "model").exists()


def test_missing_and_extra_tensors_are_named(tmp_path):
    without = model.abstract_variables(dataclasses.replace(METADATA, edge_branch=False))
    whole = model.abstract_variables(METADATA)
    with pytest.raises(UserError, match=r"lacks the tensor .*edge"):
        model.require_same_shapes(without, whole, "it")
    with pytest.raises(UserError, match=r"has the tensor .*edge"):
        model.require_same_shapes(whole, without, "it")


def test_checkpoints_are_found_by_name_and_by_path(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path, keep=1)
    save_run(checkpoints, make_state(0, 4), {})
    with pytest.raises(UserError, match="best"):
        model.resolve("best", tmp_path)
    models = {name: random_variables(METADATA, seed) for seed, name in enumerate("abc")}
    checkpoints.save_best(4, METADATA, models["a"])
    checkpoints.save_teacher(1, METADATA, models["b"])
    checkpoints.save_teacher(2, METADATA, models["c"])
    checkpoints.close()

    def loaded(name, workdir=tmp_path):
        return model.load_model(name, workdir)[1]

    assert_same(loaded("latest"), make_state(0, 4).eval_variables)
    assert_same(loaded("best"), models["a"])
    assert_same(loaded("teacher:1"), models["b"])
    assert_same(loaded("teacher"), models["c"])
    assert_same(loaded(str(tmp_path), None), models["c"])
    assert_same(loaded(str(tmp_path / "best"), None), models["a"])
    assert_same(loaded(str(tmp_path / "teachers" / "1"), None), models["b"])
    for wrong in ("teacher:3", "teacher:0", str(tmp_path / "nowhere"), "."):
        with pytest.raises(UserError):
            loaded(wrong)


DAMAGE = {
    "missing": lambda path, data: path.unlink(),
    "empty": lambda path, data: path.write_bytes(b""),
    "truncated": lambda path, data: path.write_bytes(data[: len(data) // 2]),
    "garbage": lambda path, data: path.write_bytes(bytes(i * 37 % 256 for i in range(len(data)))),
    "zeros": lambda path, data: path.write_bytes(bytes(len(data))),
    "nested": lambda path, data: path.write_bytes(b"[" * 100_000),
}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    model.save_model(path, METADATA, **random_variables(METADATA))
    return path


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(
    "file", ["metadata/metadata", "model/_METADATA", "model/manifest.ocdbt", "largest"]
)
def test_a_damaged_file_is_said_in_one_sentence(saved_model, tmp_path, capfd, kind, file):
    path = tmp_path / "model"
    shutil.copytree(saved_model, path)
    if file == "largest":
        files = [file for file in (path / "model").rglob("*") if file.is_file()]
        file = max(files, key=lambda file: file.stat().st_size)
    DAMAGE[kind](path / file, (path / file).read_bytes())
    with pytest.raises(UserError, match=f"the checkpoint {path} .*; use another") as refused:
        model.load_model(path)
    assert len(str(refused.value).splitlines()) == 1
    assert "Event loop is closed" not in capfd.readouterr().err


@pytest.mark.parametrize("content", [{}, [], 3, {"encoder": "tiny"}])
def test_json_that_is_no_metadata_is_refused(saved_model, tmp_path, content):
    shutil.copytree(saved_model, tmp_path / "model")
    (tmp_path / "model" / "metadata" / "metadata").write_text(json.dumps(content))
    with pytest.raises(UserError, match="metadata"):
        model.load_model(tmp_path / "model")


@pytest.mark.parametrize("error", [TypeError, AttributeError, KeyError, RuntimeError])
def test_a_programming_error_is_not_taken_for_damage(saved_model, monkeypatch, error):
    def faulty(found, expected, name):
        raise error("a fault of the program")

    monkeypatch.setattr(model, "require_same_shapes", faulty)
    with pytest.raises(error, match="a fault of the program"):
        model.load_model(saved_model)


def test_a_model_below_a_file_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot make the folder {tmp_path}/file: "):
        model.save_model(tmp_path / "file" / "model", METADATA, **random_variables(METADATA))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
