import itertools

import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import label_maps, label_sets
from dmlcsr_jax.data.label_maps import label_map, shared_label_set
from dmlcsr_jax.errors import UserError

SETS = label_sets.LABEL_SETS
PAIRS = [(SETS[a], SETS[b]) for a, b in label_maps.TABLES]


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda s: s.name)
def test_tables_name_every_class_and_reach_every_part(source, target):
    assert set(label_maps.TABLES[source.name, target.name]) == set(source.classes)
    mapping = label_map(source, target)
    classes = np.arange(source.num_classes)
    assert set(mapping.labels[classes]) - {target.ignore_label} == set(range(target.num_classes))
    assert mapping.predictions[classes].max() < target.num_classes
    # What a label maps to, a prediction does too.
    kept = mapping.labels != target.ignore_label
    np.testing.assert_array_equal(mapping.labels[kept], mapping.predictions[kept])
    assert set(mapping.labels[source.num_classes :]) == {target.ignore_label}


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda s: s.name)
def test_mapping_and_mirroring_commute(source, target):
    mapping = label_map(source, target)
    for table in (mapping.labels, mapping.predictions):
        mirrored_first = table[source.mirror_table()]
        mirrored_last = target.mirror_table()[table]
        np.testing.assert_array_equal(mirrored_first, mirrored_last)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("celebamask_hq", "celebamask_hq_mini/labels/*.png"),
        ("face_synthetics", "face_synthetics_100/*_seg.png"),
        ("lapa", "lapa_one/labels/*.png"),
    ],
)
def test_left_parts_of_real_faces_lie_left_after_mapping(shared_dir, name, pattern):
    target = SETS["common"]
    mapping = label_map(SETS[name], target)
    left_of = []
    for file in sorted((shared_dir / "data").glob(pattern))[:30]:
        label = mapping.labels[np.asarray(PIL.Image.open(file))]
        for part in ("eye", "brow"):
            left, right = (label == target.classes.index(f"{s}_{part}") for s in ("left", "right"))
            if left.any() and right.any():
                left_of.append(np.where(left)[1].mean() < np.where(right)[1].mean())
    assert np.mean(left_of) > 0.9
    assert len(left_of) >= 2


def test_mapped_face_synthetics_and_celebamask_hq_look_alike(shared_dir):
    """Parts lie on the same side and height of the face whichever set they come from."""
    target = SETS["common_extended"]
    parts = [p for p in target.classes if p.startswith(("left", "right", "nose", "upper", "lower"))]
    centres = {}
    for name, pattern in (
        ("celebamask_hq", "celebamask_hq_mini/labels/*.png"),
        ("face_synthetics", "face_synthetics_100/*_seg.png"),
    ):
        mapping = label_map(SETS[name], target)
        files = sorted((shared_dir / "data").glob(pattern))[:40]
        labels = [mapping.labels[np.asarray(PIL.Image.open(file))] for file in files]
        nose = [np.argwhere(label == target.classes.index("nose")).mean(0) for label in labels]
        centres[name] = [
            np.nanmean(
                [
                    np.argwhere(label == target.classes.index(part)).mean(0) - origin
                    for label, origin in zip(labels, nose, strict=True)
                    if (label == target.classes.index(part)).any()
                ],
                axis=0,
            )
            for part in parts
        ]
    first, second = (np.array(c) for c in centres.values())
    off_centre = np.abs(first) > 15
    np.testing.assert_array_equal(np.sign(first)[off_centre], np.sign(second)[off_centre])


def test_shared_sets():
    assert (
        shared_label_set(SETS["celebamask_hq"], SETS["face_synthetics"]).name == "common_extended"
    )
    assert (
        shared_label_set(SETS["common_extended"], SETS["celebamask_hq"]).name == "common_extended"
    )
    for first, second in itertools.permutations(("celebamask_hq", "lapa", "helen"), 2):
        assert shared_label_set(SETS[first], SETS[second]).name == "common"
    assert shared_label_set(SETS["lapa"], SETS["lapa"]).name == "lapa"


def test_an_own_label_set_is_compared_only_with_itself(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("background\nface\n")
    mine = label_sets.get(path)
    assert shared_label_set(mine, mine) == mine
    with pytest.raises(UserError, match="cannot be compared"):
        shared_label_set(mine, SETS["lapa"])
    with pytest.raises(UserError, match="no table from the labels of 'mine'"):
        label_map(mine, SETS["common"])
