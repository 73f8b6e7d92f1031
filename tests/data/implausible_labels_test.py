"""Masks as every tool writes them, 0 and 255, are refused by every reader of a set."""

import cv2
import numpy as np
import preparing
import pytest
from dmlcsr_jax.configs import fine_tune

from dmlcsr_jax.check_data import check
from dmlcsr_jax.data.implausible_labels import implausible
from dmlcsr_jax.data.label_sets import HELEN
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.training import loop


def counts(**pixels):
    result = np.zeros(256, int)
    for value, number in pixels.items():
        result[int(value[1:])] = number
    return result


@pytest.mark.parametrize(
    "pixels",
    [
        {"_0": 70, "_255": 30},
        {"_0": 100},
        {"_255": 100},
        {"_0": 10, "_1": 10, "_255": 80},
    ],
)
def test_a_single_class_or_little_but_ignored_pixels(pixels):
    assert implausible(counts(**pixels), HELEN)


@pytest.mark.parametrize(
    "pixels",
    [
        {"_0": 70, "_1": 30},
        {"_0": 70, "_1": 1, "_255": 29},
        {f"_{label}": 1 for label in range(11)} | {"_255": 500},  # scribbles
    ],
)
def test_rare_classes_may_be_absent_and_scribbles_few(pixels):
    assert implausible(counts(**pixels), HELEN) is None


@pytest.fixture
def folder(tmp_path):
    """Photographs of hair, its masks of 0 and 255."""
    root = tmp_path / "set"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    mask = np.zeros((48, 48), np.uint8)
    mask[:12] = 255
    for index in range(4):
        cv2.imwrite(str(root / "images" / f"{index}.png"), np.zeros((48, 48, 3), np.uint8))
        cv2.imwrite(str(root / "labels" / f"{index}.png"), mask)
    for split in ("train", "val"):
        (root / f"{split}_list.txt").write_text("0\n1\n2\n3\n")
    (root / "label_names.txt").write_text("background\nhair\n")
    return root


def config_of(folder):
    config = fine_tune.get_config()
    config.data.root = str(folder)
    config.data.label_set = str(folder / "label_names.txt")
    config.data.num_workers = 0
    config.train.batch_size = config.eval.batch_size = 8
    return config


def test_training_and_the_check_say_what_to_do(folder, tmp_path):
    said = r"background alone of background, hair, and 25\.0% .* 255.*divide the values by 255"
    with pytest.raises(UserError, match=said):
        loop.train_and_evaluate(config_of(folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=said):
        check.check_config_data(config_of(folder), tmp_path / "check")


def test_prepare_says_it_too_and_writes_nothing(folder, tmp_path, capsys):
    error = preparing.error(capsys, "folder", folder, tmp_path / "to")
    assert "divide the values by 255" in error
    assert not list((tmp_path / "to").rglob("*.array_record*"))


def test_prepare_names_every_bad_label_up_to_a_handful(folder, tmp_path, capsys):
    for index in range(4):
        label = np.zeros((48, 48), np.uint8)
        label[4] = 1
        if index != 1:
            label[7] = 9
        cv2.imwrite(str(folder / "labels" / f"{index}.png"), label)
    (folder / "val_list.txt").unlink()
    error = preparing.error(capsys, "folder", folder, tmp_path / "to")
    assert [index for index in range(4) if f"{index}.png has label 9" in error] == [0, 2, 3]
    assert "3 examples are bad" in error
    assert not list((tmp_path / "to").rglob("*.array_record*"))
