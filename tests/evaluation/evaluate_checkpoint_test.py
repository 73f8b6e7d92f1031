"""Where the results of a checkpoint are written, and what they say of themselves."""

import json

import cv2
import jax
import numpy as np
import pytest
from dmlcsr_jax.configs import synthetic
from small_checkpoints import random_variables

from dmlcsr_jax.checkpoints.model import save_model
from dmlcsr_jax.data.synthetic import SyntheticSource
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.evaluation.evaluate_checkpoint import evaluate_checkpoint, results_folder
from dmlcsr_jax.models.metadata import Metadata


def small_config():
    config = synthetic.get_config()
    config.data.synthetic.eval_examples = 8
    config.data.synthetic.size = 48
    config.data.image_size = 32
    config.data.num_workers = 0
    config.model.width = 0.25
    config.train.batch_size = 8
    config.eval.batch_size = 8
    return config


@pytest.mark.parametrize(
    ("flip", "scales", "name"),
    [
        (False, (1.0,), "teacher_2_synthetic_val"),
        (True, (1.0,), "teacher_2_synthetic_val_flip"),
        (False, (0.75, 1.0), "teacher_2_synthetic_val_scales_0.75_1"),
        (True, (0.5,), "teacher_2_synthetic_val_flip_scales_0.5"),
    ],
)
def test_the_folder_tells_evaluations_apart(tmp_path, flip, scales, name):
    config = small_config()
    config.data.label_set, config.data.eval_split = "synthetic", "val"
    config.eval.flip, config.eval.scales = flip, scales
    assert results_folder(config, tmp_path, "teacher:2") == tmp_path / "eval" / name


def test_averaging_views_leaves_the_plain_results(tmp_path):
    config = small_config()
    metadata = Metadata.from_config(config)
    variables = random_variables(metadata)
    variables["batch_stats"] = jax.tree.map(abs, variables["batch_stats"])
    save_model(tmp_path / "model", metadata, **variables)
    for flip, scales in ((False, (1.0,)), (True, (1.0, 1.5))):
        config.eval.flip, config.eval.scales = flip, scales
        evaluate_checkpoint(config, tmp_path, str(tmp_path / "model"))
    found = [json.loads(path.read_text()) for path in tmp_path.glob("eval/*/metrics.json")]
    assert sorted((f["flip"], f["scales"], f["num_images"]) for f in found) == [
        (False, [1.0], 8),
        (True, [1.0, 1.5], 8),
    ]
    assert {f["split"] for f in found} == {config.data.eval_split}


def test_what_the_run_ships_is_evaluated_unless_another_is_named(tmp_path):
    config = small_config()
    metadata = Metadata.from_config(config)
    variables = random_variables(metadata)
    variables["batch_stats"] = jax.tree.map(abs, variables["batch_stats"])
    for folder in ("checkpoints/3", "teachers/1"):
        (tmp_path / folder).parent.mkdir()
        save_model(tmp_path / folder, metadata, **variables)
        evaluate_checkpoint(config, tmp_path, None)
    found = [json.loads(path.read_text()) for path in tmp_path.glob("eval/*/metrics.json")]
    assert sorted(f["checkpoint"] for f in found) == ["checkpoints/3", "teachers/1"]


def test_labels_that_are_all_ignored_end_in_a_sentence(tmp_path, monkeypatch):
    config = small_config()
    metadata = Metadata.from_config(config)
    save_model(tmp_path / "model", metadata, **random_variables(metadata))
    drawn = SyntheticSource(2, 48)

    class Ignored:
        def __len__(self):
            return len(drawn)

        def __getitem__(self, index):
            example = drawn[index]
            return example | {"label": np.full_like(example["label"], 255)}

    monkeypatch.setattr(
        "dmlcsr_jax.evaluation.evaluate_checkpoint.open_source", lambda *args: Ignored()
    )
    with pytest.raises(UserError, match=r"no pixel of the 2 images .* have the label 255"):
        evaluate_checkpoint(config, tmp_path, str(tmp_path / "model"))
    [results] = tmp_path.glob("eval/*/metrics.json")
    assert json.loads(results.read_text())["mean_f1"] is None


def test_a_set_of_groups_is_judged_by_its_groups(tmp_path):
    """Every prediction counts as the group that holds its class: here all of them are right."""
    config = small_config()
    metadata = Metadata.from_config(config)
    save_model(tmp_path / "model", metadata, **random_variables(metadata))
    helen = metadata.label_set
    groups = {
        "name": "all_or_hair", "classes": ["background", "hair"], "mirror_pairs": [],
        "left_is": "none", "palette": [[0, 0, 0], [90, 60, 140]], "groups": {},
        "ignore_label": 255, "means_in": helen.name,
        "means": {"background": list(helen.classes), "hair": ["hair"]},
    }  # fmt: skip
    (tmp_path / "groups.json").write_text(json.dumps(groups))
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    (tmp_path / "test_list.txt").write_text("x")
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "images/x.png"), rng.integers(0, 255, (48, 48, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "labels/x.png"), np.zeros((48, 48), np.uint8))
    config.data.source, config.data.root = "folder", str(tmp_path)
    config.data.label_set = str(tmp_path / "groups.json")
    config.data.eval_split = "test"
    evaluate_checkpoint(config, tmp_path, str(tmp_path / "model"), out=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["pixel_accuracy"] == 1
    assert found["num_images"] == 1
