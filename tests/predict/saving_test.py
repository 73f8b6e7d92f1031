"""No result takes another one's place: names differ, or files are the same photograph's."""

import colour_network
import numpy as np
import pytest
from colour_network import picture
from prediction_files import files_below, read_label, save

from dmlcsr_jax import FaceParser

ONE, TWO = picture([[1, 2]]), picture([[3, 4, 5]])


@pytest.fixture
def parser(monkeypatch):
    colour_network.install(monkeypatch.setattr)
    return FaceParser("any", faces="whole")


def test_arrays_without_names_get_numbers(parser, tmp_path):
    results = parser([ONE, TWO])
    saved = [result.save(tmp_path) for result in results]
    assert files_below(tmp_path) == sorted(path.name for paths in saved for path in paths)
    assert [paths[0].name for paths in saved] == ["photograph.png", "photograph_2.png"]
    for result, paths in zip(results, saved, strict=True):
        np.testing.assert_array_equal(read_label(paths[0]), result.label)


def test_photographs_of_one_name_in_two_folders_get_a_file_each(parser, tmp_path):
    for folder, image in (("a", ONE), ("b", TWO)):
        save(tmp_path / folder / "1.png", image)
    out = tmp_path / "out"
    photographs = [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png"]
    for _ in range(2):  # The same photographs again replace their own files.
        results = parser(photographs)
        saved = [result.save(out) for result in results]
        assert [paths[0].name for paths in saved] == ["1.png", "1_2.png"]
        for result, paths in zip(results, saved, strict=True):
            np.testing.assert_array_equal(read_label(paths[0]), result.label)
    assert len(files_below(out)) == 6


def test_a_file_of_somebody_else_is_left_alone(parser, tmp_path):
    (tmp_path / "photograph.png").write_bytes(b"mine")
    assert parser(ONE).save(tmp_path)[0].name == "photograph_2.png"
    assert (tmp_path / "photograph.png").read_bytes() == b"mine"


def test_a_name_that_is_given_is_replaced(parser, tmp_path):
    for image in (ONE, TWO):
        result = parser(image)
        paths = result.save(tmp_path, "mine")
        assert [path.name for path in paths] == ["mine.png", "mine_overlay.jpg", "mine.json"]
    np.testing.assert_array_equal(read_label(paths[0]), result.label)
    assert len(files_below(tmp_path)) == 3
