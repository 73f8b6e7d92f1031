"""Photographs without labels, with neighbours, and hidden in part: what is read and what drawn."""

import dataclasses

import cv2
import numpy as np
import pytest
from dmlcsr_jax.configs import celebamask_hq_small, default

from dmlcsr_jax import config as config_lib
from dmlcsr_jax.data import augmentation, label_sets, sources
from dmlcsr_jax.data.batches import train_batches
from dmlcsr_jax.data.degradation import Degradation
from dmlcsr_jax.data.mixture import open_mixture
from dmlcsr_jax.data.neighbours import NeighbourSource
from dmlcsr_jax.data.occlusion import draw_occlusion
from dmlcsr_jax.data.unlabelled import UnlabelledSource
from dmlcsr_jax.errors import UserError

CELEB = label_sets.CELEBAMASK_HQ
STILL = augmentation.Augmentation(scale_std=0, rotation_prob=0, mirror_prob=0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        image = np.full((20, 30, 3), 40 * number, np.uint8)
        cv2.imwrite(str(tmp_path / f"images/p {number}.png"), image)
    return tmp_path


def test_photographs_without_labels_are_not_known_anywhere(folder):
    (folder / "images" / "notes.txt").write_text("not a photograph")
    source = UnlabelledSource(folder, "train", CELEB)
    assert len(source) == 3
    example = source[1]
    assert example["name"] == "p 1"
    assert (example["image"] == 40).all()
    np.testing.assert_array_equal(example["label"], np.full((20, 30), 255))
    (folder / "train_list.txt").write_text("images/p 2.png\n\n")
    assert [UnlabelledSource(folder, "train", CELEB)[0]["name"]] == ["p 2"]


def test_a_folder_without_photographs_is_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nowhere"):
        UnlabelledSource(tmp_path / "nowhere", "train", CELEB)
    (folder / "val_list.txt").write_text("images/p 9.png")
    with pytest.raises(UserError, match=r"val_list\.txt names p 9\.png"):
        UnlabelledSource(folder, "val", CELEB)
    (folder / "train_list.txt").write_text("\n")
    with pytest.raises(UserError, match="no photographs"):
        UnlabelledSource(folder, "train", CELEB)


@pytest.fixture
def config(folder):
    config = celebamask_hq_small.get_config()
    config.data.root = str(folder)
    config.data.sources.faces = default.source(0.25)
    config.data.sources.faces.kind = "images"
    config.data.sources.faces.root = str(folder)
    config.loss.weights.consistency = 1.0
    return config


def test_a_source_without_labels_needs_the_teachers_term(config):
    config_lib.validate(config)
    config.optim.ema_decay = 0.0
    with pytest.raises(UserError, match=r"optim\.ema_decay"):
        config_lib.validate(config)
    config.loss.weights.consistency = 0.0
    with pytest.raises(UserError, match=r"sources\.faces has no labels"):
        config_lib.validate(config)


def test_batches_have_weak_views(config, folder):
    (folder / "labels").mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"labels/p{number}.png"), np.zeros((20, 30), np.uint8))
        (folder / f"images/p {number}.png").rename(folder / f"images/p{number}.png")
    (folder / "train_list.txt").write_text("p0\np1\np2")
    (folder / "faces").mkdir()
    (folder / "faces" / "images").symlink_to(folder / "images")
    config.data.sources.faces.root = str(folder / "faces")
    mixture = open_mixture(config, CELEB)
    with train_batches(
        sources.open_source(config, "train", CELEB),
        label_set=mixture.labels,
        further=mixture.parts,
        image_size=32,
        augmentation=STILL,
        batch_size=4,
        seed=1,
        with_weak_views=True,
    ) as batches:
        batch = next(batches)
    assert batch["weak_image"].shape == batch["image"].shape == (4, 32, 32, 3)
    assert sorted((batch["label"] == 255).all(axis=(1, 2)).tolist()) == [False] * 3 + [True]


@pytest.mark.parametrize("scene_prob", [0.0, 1.0])
def test_a_weak_view_is_the_same_view_undegraded(scene_prob):
    rng = np.random.default_rng(0)
    example = {
        "image": rng.integers(0, 256, (40, 20, 3), np.uint8),
        "label": np.full((40, 20), 255, np.uint8),
        "name": "",
    }
    turned = dataclasses.replace(
        augmentation.Augmentation(rotation_prob=1.0), scene_prob=scene_prob, occlusion_prob=1.0
    )
    worse = dataclasses.replace(
        turned, brightness=0.3, degradation=Degradation(prob=1.0), contrast=0.2
    )

    def view(ranges, with_weak_view):
        return augmentation.augment(
            example,
            np.random.default_rng(4),
            size=48,
            augmentation=ranges,
            label_set=CELEB,
            with_weak_view=with_weak_view,
        )

    plain = view(turned, with_weak_view=True)
    np.testing.assert_array_equal(plain["image"], plain["weak_image"])
    strong = view(worse, with_weak_view=True)
    assert (strong["image"] != strong["weak_image"]).any()
    without = view(worse, with_weak_view=False)
    assert sorted(without) == ["image", "label"]
    for name, values in without.items():
        np.testing.assert_array_equal(values, strong[name])


def test_hidden_pixels_are_background_and_the_others_as_before():
    example = {
        "image": np.full((64, 64, 3), 90, np.uint8),
        "label": np.full((64, 64), 13, np.uint8),
        "name": "",
    }
    for seed in range(20):
        plain, hidden = (
            augmentation.augment(
                example,
                np.random.default_rng(seed),
                size=64,
                augmentation=dataclasses.replace(STILL, occlusion_prob=prob),
                label_set=CELEB,
            )
            for prob in (0.0, 1.0)
        )
        is_hidden = hidden["label"] == CELEB.background
        assert is_hidden.any()
        for name in ("image", "label"):
            np.testing.assert_array_equal(hidden[name][~is_hidden], plain[name][~is_hidden])


def test_things_are_drawn_by_the_seed_and_leave_most_of_the_view():
    image = np.full((96, 96, 3), 120, np.uint8)
    shares = []
    for seed in range(100):
        things, hidden = draw_occlusion(np.random.default_rng(seed), image)
        again, _ = draw_occlusion(np.random.default_rng(seed), image)
        np.testing.assert_array_equal(things, again)
        assert (things.dtype, things.shape, hidden.shape) == (np.uint8, (96, 96, 3), (96, 96))
        shares.append(hidden.mean())
    assert 0.05 < np.median(shares) < 0.4
    assert np.mean(np.array(shares) < 0.7) > 0.95


class Greys:
    """Photographs whose grey, label and size say which they are."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        height = 20 + 2 * index
        return {
            "image": np.full((height, 30, 3), index, np.uint8),
            "label": np.full((height // 2, 15), index % 19, np.uint8),
            "name": str(index),
        }


def test_neighbours_keep_their_own_labels():
    always = NeighbourSource(Greys(), 1.0, seed=3)
    is_left = []
    for index in range(20):
        pair = always[index]
        height = 20 + 2 * index
        assert pair["name"] == str(index)
        assert pair["image"].shape[:2] == pair["label"].shape
        assert len(pair["image"]) == height
        np.testing.assert_array_equal(pair["image"][..., 0] % 19, pair["label"])
        own = pair["image"][0, :, 0] == index
        assert own.sum() >= 30
        is_left.append(bool(own[0]))
        np.testing.assert_array_equal(always[index]["image"], pair["image"])
    assert 3 < sum(is_left) < 17
    never = NeighbourSource(Greys(), 0.0, seed=3)
    assert never[4]["image"].shape == (28, 30, 3)
    half = NeighbourSource(Greys(), 0.5, seed=3)
    assert 3 < sum(half[index]["image"].shape[1] > 30 for index in range(20)) < 17


def test_crops_have_no_neighbours(config):
    config.data.neighbour_prob = 0.2
    config_lib.validate(config)
    config.data.crop_margin = 0.3
    with pytest.raises(UserError, match="a crop shows one face"):
        config_lib.validate(config)
