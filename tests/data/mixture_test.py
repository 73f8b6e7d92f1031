"""Several sources in a batch: their shares, their labels and views, and scenes without a face."""

import dataclasses

import cv2
import numpy as np
import pytest
from dmlcsr_jax.configs import celebamask_hq_small, default

from dmlcsr_jax.data import augmentation, label_sets, sources
from dmlcsr_jax.data.batches import num_train_steps_per_epoch, train_batches
from dmlcsr_jax.data.mixture import open_mixture
from dmlcsr_jax.data.scenes import SceneSource, draw_scene

CELEB = label_sets.CELEBAMASK_HQ
STILL = augmentation.Augmentation(scale_std=0, rotation_prob=0, mirror_prob=0)


def write_folder(folder, grey, labels, count=6):
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    names = []
    for number in range(count):
        names.append(f"p{number}")
        cv2.imwrite(str(folder / f"images/p{number}.png"), np.full((32, 32, 3), grey, np.uint8))
        label = np.uint8(labels)[np.arange(32 * 32).reshape(32, 32) * len(labels) // 1024]
        cv2.imwrite(str(folder / f"labels/p{number}.png"), label)
    (folder / "train_list.txt").write_text("\n".join(names))
    return str(folder)


@pytest.fixture
def config(tmp_path):
    config = celebamask_hq_small.get_config()
    config.data.root = write_folder(tmp_path / "celeb", 50, [0, 1, 13])
    for name, share, grey, labels in (
        ("lfw_parts", 0.25, 100, [0, 1, 2, 255]),
        ("figaro", 0.125, 150, [0, 1]),
    ):
        config.data.sources[name] = default.source(share)
        config.data.sources[name].root = write_folder(tmp_path / name, grey, labels)
        config.data.sources[name].label_set = name
    config.data.sources.same = default.source(0.125)
    config.data.sources.same.root = write_folder(tmp_path / "same", 200, [4, 5])
    config.data.sources.same.label_set = "celebamask_hq"
    config.data.sources.same.augmentation.mirror_prob = 1.0
    for field in ("scale_std", "rotation_prob", "mirror_prob"):
        config.augmentation[field] = 0.0
    for field in ("brightness", "contrast", "saturation"):
        config.augmentation[field] = 0.0
    return config


def batches_of(config, count, **options):
    mixture = open_mixture(config, CELEB)
    with train_batches(
        sources.open_source(config, "train", CELEB),
        label_set=mixture.labels,
        further=mixture.parts,
        image_size=32,
        augmentation=augmentation.Augmentation.from_dict(config.augmentation.to_dict()),
        batch_size=8,
        seed=1,
        **options,
    ) as batches:
        return mixture, [next(batches) for _ in range(count)]


def test_every_source_takes_its_share_of_the_rows(config):
    mixture, batches = batches_of(config, 4)
    assert mixture.first_share == 0.5
    greys = [int(image[16, 16, 0]) for batch in batches for image in batch["image"]]
    counts = {grey: greys.count(grey) for grey in set(greys)}
    assert counts == {50: 16, 100: 8, 150: 4, 200: 4}


def test_each_row_has_the_labels_of_its_source(config):
    mixture, batches = batches_of(config, 2)
    allowed = mixture.groups
    for batch in batches:
        for image, label in zip(batch["image"], batch["label"], strict=True):
            values = sorted(set(label.ravel().tolist()) - {255})
            meanings = [
                {CELEB.classes[value]} if value < 19 else
                {CELEB.classes[k] for k in np.flatnonzero(allowed[value - 19])}
                for value in values
            ]  # fmt: skip
            kind = int(image[16, 16, 0])
            if kind == 50:
                assert values == [0, 1, 13]
            elif kind == 200:
                # Mirrored by its own augmentation: label 4, the first half, is 5 now.
                assert (label[:16] == 5).all()
                assert (label[16:] == 4).all()
            else:
                declared = label_sets.LFW_PARTS if kind == 100 else label_sets.FIGARO
                assert values[0] >= 19
                assert sorted(map(sorted, meanings)) == sorted(
                    sorted(names) for names in declared.means.values()
                )
                assert (255 in label) == (kind == 100)


def test_mixed_batches_are_a_function_of_seed_and_step(config):
    _, straight = batches_of(config, 4)
    _, later = batches_of(config, 2, start_step=2)
    for a, b in zip(straight[2:], later, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])
    halves = [batches_of(config, 2, process_index=i, process_count=2)[1] for i in (0, 1)]
    for step in range(2):
        joined = np.concatenate([half[step]["image"] for half in halves])
        np.testing.assert_array_equal(joined, straight[step]["image"])


def test_without_sources_there_are_no_groups(config):
    config.data.sources = type(config)()
    mixture = open_mixture(config, CELEB)
    assert mixture.parts == ()
    assert mixture.groups is None
    assert mixture.first_share == 1


def test_an_epoch_is_that_of_the_first_source():
    assert num_train_steps_per_epoch(100, 8) == 12
    assert num_train_steps_per_epoch(100, 8, 0.5) == 25


def test_scenes_are_background_and_differ():
    source = SceneSource(8, 48, CELEB, seed=2)
    scenes = [source[index] for index in range(8)]
    assert all((scene["label"] == 0).all() for scene in scenes)
    assert len({scene["image"].tobytes() for scene in scenes}) == 8
    np.testing.assert_array_equal(source[3]["image"], scenes[3]["image"])
    for seed in range(60):
        scene = draw_scene(np.random.default_rng(seed), 40)
        assert (scene.shape, scene.dtype) == ((40, 40, 3), np.uint8)


def test_a_scene_surrounds_the_photograph():
    example = {
        "image": np.full((40, 20, 3), 90, np.uint8),
        "label": np.full((40, 20), 13, np.uint8),
        "name": "",
    }

    def view(scene_prob):
        return augmentation.augment(
            example,
            np.random.default_rng(0),
            size=40,
            augmentation=dataclasses.replace(STILL, scene_prob=scene_prob),
            label_set=CELEB,
        )

    plain, surrounded = view(0.0), view(1.0)
    outside = plain["label"] == 255
    assert outside.mean() == 0.5
    assert (plain["image"][outside] == 0).all()
    assert (surrounded["label"][outside] == 0).all()
    for name in ("image", "label"):
        np.testing.assert_array_equal(surrounded[name][~outside], plain[name][~outside])
