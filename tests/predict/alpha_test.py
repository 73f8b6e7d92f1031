"""Soft masks: alpha follows the photograph's edges where the network's are blurred or moved."""

import cv2
import numpy as np
import PIL.Image
import pytest
from colour_network import picture
from prediction_files import save

from dmlcsr_jax import FaceParser
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import alpha
from dmlcsr_jax.predict.mask_shape import Shape

pymatting = pytest.importorskip("pymatting", reason="needs the extra soft")
Y, X = np.mgrid[:64, :80]


@pytest.mark.parametrize(
    ("times", "most_pixels"), [(1, 2**17), (12, 2**14)]
)  # The second is reduced.
def test_alpha_finds_the_edge_that_a_blurred_probability_misses(times, most_pixels):
    truth = (np.hypot(X - 40, Y - 32) < 18).astype(np.float32)
    truth = np.kron(truth, np.ones((times, times), np.float32))
    image = np.where(truth[..., None] > 0, [40, 30, 20], [200, 210, 220]).astype(np.uint8)
    moved = np.roll(truth, times, axis=1)
    probability = cv2.GaussianBlur(moved, (0, 0), 1.5 * times)
    found = alpha.refined(image, probability, most_pixels)
    assert found.dtype == np.float32
    assert found.shape == truth.shape
    assert 0 <= found.min() <= found.max() <= 1
    before, after = (np.abs(a - truth).mean() for a in (probability, found))
    assert after < 0.25 * before


def test_an_enlarged_alpha_keeps_the_photograph_s_edge_sharp():
    truth = np.hypot(X - 40, Y - 32) < 18
    truth = np.kron(truth, np.ones((8, 8), bool))
    image = np.where(truth[..., None], [40, 30, 20], [200, 210, 220]).astype(np.uint8)
    probability = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 12)
    found = alpha.refined(image, probability, truth.size // 64)
    # Linear enlargement blurs it over the eight pixels that one was made of.
    assert np.mean(np.abs(found - truth) > 0.1) < 0.002


def test_what_lies_around_the_part_changes_nothing():
    truth = (np.hypot(X - 40, Y - 32) < 18).astype(np.float32)
    image = np.where(truth[..., None] > 0, [40, 30, 20], [200, 210, 220]).astype(np.uint8)
    probability = cv2.GaussianBlur(truth, (0, 0), 2)
    around = ((0, 0), (40, 200))
    wide, probability = np.pad(image, (*around, (0, 0)), mode="edge"), np.pad(probability, around)
    found = alpha.refined(wide, probability)
    wide[:, :50] = np.random.default_rng(0).integers(0, 256, (64, 50, 3))
    np.testing.assert_array_equal(alpha.refined(wide, probability), found)
    known = alpha.trimap(probability, 0.02 * 320)
    expected = pymatting.estimate_alpha_cf(wide / 255, known)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_part_that_is_nowhere_or_everywhere_stays_as_it_is(value):
    probability = np.full((20, 30), value, np.float32)
    found = alpha.refined(np.zeros((20, 30, 3), np.uint8), probability)
    np.testing.assert_array_equal(found, probability)


def test_soft_files_of_eight_and_sixteen_bits_agree(run, tmp_path):
    save(tmp_path / "photos" / "a.png", picture([[0, 10, 10], [0, 10, 0], [7, 9, 0]]))
    arguments = ("--masks=hair,lips", "--cutout=hair", "--soft", "--no_overlay")
    masks = {}
    for bits in (8, 16):
        out = tmp_path / str(bits)
        extra = () if bits == 8 else ("--soft_bits=16",)
        assert run(tmp_path / "photos", *arguments, *extra, out=out)[0] == 0
        with PIL.Image.open(out / "masks/hair/a.png") as file:
            masks[bits] = np.asarray(file).astype(float) / (2**bits - 1)
        with PIL.Image.open(out / "cutouts/hair/a.png") as file:
            np.testing.assert_allclose(np.asarray(file)[..., 3] / 255, masks[bits], atol=0.003)
    np.testing.assert_allclose(masks[8], masks[16], atol=0.003)
    # The colour network is sure of nothing, so that there is no edge to refine.
    result = FaceParser("any", faces="whole")(tmp_path / "photos" / "a.png")
    np.testing.assert_allclose(masks[16], result.probabilities("hair"), atol=1e-5)
    assert masks[16].max() > 0.1


def test_soft_files_are_cleaned_grown_and_feathered(run, tmp_path):
    save(tmp_path / "photos" / "a.png", picture([[0, 10, 10], [0, 10, 0], [7, 9, 0]]))
    options = ("--masks=hair", "--soft", "--no_overlay", "--faces=whole")
    shape = ("--grow=3", "--feather=2", "--clean=0.01")
    assert run(tmp_path / "photos", *options, *shape, out=tmp_path / "out")[0] == 0
    with PIL.Image.open(tmp_path / "out/masks/hair/a.png") as file:
        found = np.asarray(file)
    result = FaceParser("any", faces="whole")(tmp_path / "photos" / "a.png")
    expected = Shape(3, 2, 0.01).softened(result.alpha("hair"))
    np.testing.assert_allclose(found / 255, expected, atol=0.003)
    assert np.abs(found / 255 - result.alpha("hair")).max() > 0.1


def test_a_group_s_probability_is_the_sum_of_its_classes_and_of_a_face_it_is_its_own(run, tmp_path):
    faces = [(0, 0, 32, 16), (64, 0, 96, 16)]
    result = FaceParser("any", faces="whole")(picture([[7, 9, 0, 0, 9, 7]]), faces=faces)
    both = result.probabilities("upper_lip") + result.probabilities("lower_lip")
    np.testing.assert_allclose(result.probabilities("lips"), both, atol=1e-6)
    of_faces = [result.alpha("lips", face) for face in (0, 1)]
    assert not of_faces[0][:, 48:].any()
    assert not of_faces[1][:, :48].any()
    assert min(found.max() for found in of_faces) > 0.2
    with pytest.raises(UserError, match="no face 2"):
        result.alpha("lips", 2)
