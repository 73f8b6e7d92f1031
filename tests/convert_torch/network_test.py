"""What a state_dict tells of its network, and what it does not."""

import dataclasses

import pytest
from reference_torch import tiny_network
from small_checkpoints import METADATA, assert_same, random_variables

from dmlcsr_jax.convert_torch.network import from_state_dict, infer_metadata, to_state_dict
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError


def _numpy(network):
    return {name: value.numpy() for name, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("num_classes", "words"),
    [(11, ["11 classes", "--label_set=helen or lapa"]), (7, ["7 classes", "--label_set=FILE"])],
)
def test_class_names_are_asked_for_where_the_count_does_not_tell(num_classes, words):
    with pytest.raises(UserError) as error:
        infer_metadata(_numpy(tiny_network(num_classes)), "w.pth")
    for word in words:
        assert word in str(error.value)


def test_label_sets_by_name_and_by_file(tmp_path):
    state = _numpy(tiny_network(11))
    assert infer_metadata(state, "w.pth", "lapa").label_set == label_sets.LAPA
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["background", *(f"part{i}" for i in range(10))]))
    assert infer_metadata(state, "w.pth", str(names)).label_set.classes[3] == "part2"


def test_a_parsing_head_of_all_depths_goes_there_and_back():
    metadata = dataclasses.replace(METADATA, multi_scale_parsing=True)
    variables = random_variables(metadata)
    state = to_state_dict(variables)
    assert infer_metadata(state, "w.pth", "helen").multi_scale_parsing
    assert_same(from_state_dict(state, metadata, "w.pth"), variables)
