"""Logits that start from another network's classes."""

import dataclasses

import numpy as np
import pytest
from dmlcsr_jax.configs import synthetic
from small_checkpoints import METADATA, random_variables

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.training.class_logits import counterparts
from dmlcsr_jax.training.warm_start import initial_weights


def named(theirs, ours):
    """Returns the names of classes of one set by those of the other."""
    theirs, ours = map(label_sets.get, (theirs, ours))
    found = counterparts(theirs, ours)
    return {ours.classes[label]: theirs.classes[other] for label, other in found.items()}


def test_every_class_is_its_own_counterpart():
    assert named("helen", "helen") == {name: name for name in label_sets.get("helen").classes}


def test_left_and_right_are_the_images():
    found = named("celebamask_hq", "face_synthetics")
    assert found["left_eye"] == "r_eye"
    assert found["right_brow"] == "l_brow"
    assert found["headwear"] == "hat"
    assert found["bottom_lip"] == "l_lip"
    # A beard is skin elsewhere; masks and veils are nothing there.
    assert found["beard"] == "skin"
    assert set(label_sets.get("face_synthetics").classes) - found.keys() == {"facewear"}
    assert named("celebamask_hq", "lapa")["left_brow"] == "r_brow"
    assert named("celebamask_hq", "lapa")["background"] == "background"


@pytest.mark.parametrize(("left_is", "sided"), [("subject", ["l_eye", "r_eye"]), ("image", [])])
def test_names_decide_where_there_is_no_table(tmp_path, left_is, sided):
    path = tmp_path / "mine.txt"
    path.write_text(f"# left_is: {left_is}\nbackground\nface\nhair\nl_eye\nr_eye\n")
    assert list(named("celebamask_hq", path)) == ["background", "hair", *sided]


def test_logits_start_from_the_classes_that_mean_the_same(tmp_path):
    # As many classes as there, in another order.
    metadata, other = (
        dataclasses.replace(METADATA, label_set=label_sets.get(name))
        for name in ("celebamask_hq", "face_synthetics")
    )
    theirs, fresh = random_variables(metadata), random_variables(other, seed=1)
    model.save_model(tmp_path / "model", metadata, **theirs)
    config = synthetic.get_config()
    config.model.init_from = str(tmp_path / "model")
    started = initial_weights(config, other, fresh)
    for name in ("parsing/logits/kernel", "parsing/logits/bias", "edge/category_logits/kernel"):
        there, new, here = (
            model.named_leaves(tree)[f"params/{name}"] for tree in (theirs, fresh, started)
        )
        for label, own in enumerate(other.label_set.classes):
            if own == "facewear":
                np.testing.assert_array_equal(here[..., label], new[..., label])
                continue
            same = named("celebamask_hq", "face_synthetics")[own]
            place = metadata.label_set.classes.index(same)
            np.testing.assert_array_equal(here[..., label], there[..., place])


def test_a_class_of_ones_own_starts_fresh(tmp_path, caplog):
    theirs = random_variables(METADATA)
    model.save_model(tmp_path / "model", METADATA, **theirs)
    (tmp_path / "mine.txt").write_text("background\nbeard\nhair\n")
    other = dataclasses.replace(METADATA, label_set=label_sets.get(tmp_path / "mine.txt"))
    fresh = random_variables(other, seed=1)
    config = synthetic.get_config()
    config.model.init_from = str(tmp_path / "model")
    with caplog.at_level("INFO"):
        started = initial_weights(config, other, fresh)
    name = "params/parsing/logits/kernel"
    there, new, here = (model.named_leaves(tree)[name] for tree in (theirs, fresh, started))
    hair = METADATA.label_set.classes.index("hair")
    np.testing.assert_array_equal(here[..., 2], there[..., hair])
    np.testing.assert_array_equal(here[..., 1], new[..., 1])
    assert "classes that start fresh: beard" in caplog.text
