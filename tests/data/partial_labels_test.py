"""Groups of classes: what the labels of other sets become, mirrored too."""

import numpy as np
import pytest

from dmlcsr_jax.data import label_maps, label_sets
from dmlcsr_jax.data.partial_labels import PartialLabels, RelabelledSource, is_complete, meanings
from dmlcsr_jax.errors import UserError

CELEB = label_sets.CELEBAMASK_HQ
PARTIAL = [s for s in label_sets.LABEL_SETS.values() if s.means_in]


def names(meaning):
    return {CELEB.classes[label] for label in meaning}


def test_a_set_is_complete_for_its_own_classes_alone():
    assert is_complete(CELEB, CELEB)
    assert not any(is_complete(s, CELEB) for s in (label_sets.HELEN, *PARTIAL))


def test_declared_meanings_are_taken():
    rest, face, hair = map(names, meanings(label_sets.LFW_PARTS, CELEB))
    assert hair == {"hair"}
    assert {"hat", "cloth", "background"} <= rest
    assert {"neck", "l_ear", "eye_g", "mouth"} <= face
    assert rest & face == {"ear_r", "neck_l"}
    assert names(meanings(label_sets.FASSEG, CELEB)[2]) == {"hair", "l_brow", "r_brow"}


def test_eleven_parts_in_nineteen_classes():
    meant = dict(
        zip(label_sets.LAPA.classes, map(names, meanings(label_sets.LAPA, CELEB)), strict=True)
    )
    anywhere = {"eye_g", "l_ear", "r_ear"}
    # LaPa's left is the image's, CelebAMask-HQ's the subject's.
    assert meant["left_eye"] == {"r_eye"} | anywhere
    assert meant["inner_mouth"] == {"mouth"} | anywhere
    assert meant["skin"] == {"skin"} | anywhere
    assert {"neck", "hat", "cloth", "background"} <= meant["background"]
    assert not {"skin", "hair"} & meant["background"]


def test_nineteen_classes_in_eleven():
    """A label without a counterpart says nothing."""
    meant = meanings(CELEB, label_sets.HELEN)
    assert len(meant[CELEB.classes.index("eye_g")]) == 11
    partial = PartialLabels.of_sets(label_sets.HELEN, [CELEB])
    table = partial.table(CELEB)
    assert table[CELEB.classes.index("eye_g")] == 255
    assert table[CELEB.classes.index("skin")] >= 11


@pytest.mark.parametrize("source", [*PARTIAL, label_sets.HELEN], ids=lambda s: s.name)
def test_the_table_leads_to_groups_of_the_meaning(source):
    partial = PartialLabels.of_sets(CELEB, [label_sets.FIGARO, source])
    table, allowed = partial.table(source), partial.allowed()
    for label, meaning in enumerate(meanings(source, CELEB)):
        assert table[label] >= CELEB.num_classes
        row = allowed[table[label] - CELEB.num_classes]
        assert set(np.flatnonzero(row)) == meaning
    assert table[255] == 255


def test_mirroring_exchanges_left_and_right_inside_groups():
    points = label_sets.IBUG_68
    partial = PartialLabels.of_sets(CELEB, [points, label_sets.LFW_PARTS])
    mirror, table = partial.mirror_table(), partial.table(points)
    left, right = (table[points.classes.index(name)] for name in ("l_eye", "r_eye"))
    assert (mirror[left], mirror[right]) == (right, left)
    np.testing.assert_array_equal(mirror[mirror], np.arange(256))
    np.testing.assert_array_equal(mirror[:19], CELEB.mirror_table()[:19])
    for label in partial.table(label_sets.LFW_PARTS)[:3]:
        assert mirror[label] == label


def test_a_mirrored_group_that_no_set_has_is_added():
    one_eye = label_sets.LabelSet(
        "one_eye", ("background", "eye"), (), "none", ((0, 0, 0), (9, 9, 99)), {}, 255,
        CELEB.name, {"background": ("background",), "eye": ("l_eye",)},
    )  # fmt: skip
    partial = PartialLabels.of_sets(CELEB, [one_eye])
    assert partial.mirror_table()[partial.table(one_eye)[1]] not in (255, partial.table(one_eye)[1])


def test_no_other_sets_are_the_networks_own_labels():
    partial = PartialLabels.of_sets(CELEB, [CELEB])
    assert partial.groups == ()
    np.testing.assert_array_equal(partial.mirror_table(), CELEB.mirror_table())


def test_meanings_for_another_network_are_refused():
    with pytest.raises(UserError, match=r"'figaro' says .* in 'celebamask_hq', not in 'helen'"):
        PartialLabels.of_sets(label_sets.HELEN, [label_sets.FIGARO])


def test_a_relabelled_source_changes_labels_alone():
    example = {"image": np.zeros((2, 2, 3), np.uint8), "label": np.uint8([[0, 1], [1, 255]])}
    table = np.arange(256, dtype=np.uint8)
    table[1] = 30
    source = RelabelledSource([example], table)
    np.testing.assert_array_equal(source[0]["label"], [[0, 30], [30, 255]])
    np.testing.assert_array_equal(source.label(0), [[0, 30], [30, 255]])
    assert source[0]["image"] is example["image"]
    assert example["label"][0, 1] == 1


@pytest.mark.parametrize("groups", PARTIAL, ids=lambda s: s.name)
def test_predictions_are_judged_in_the_groups_that_a_set_has(groups):
    assert label_maps.shared_label_set(groups, CELEB) is groups
    table = label_maps.label_map(CELEB, groups).predictions
    for label, name in enumerate(CELEB.classes):
        assert name in groups.means[groups.classes[table[label]]]
    np.testing.assert_array_equal(
        label_maps.label_map(groups, groups).labels[: groups.num_classes],
        np.arange(groups.num_classes),
    )
