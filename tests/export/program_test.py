import dataclasses

import jax
import numpy as np
import pytest
import small_checkpoints

from dmlcsr_jax.data import geometry, unwarp, warp
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.export import program


@pytest.mark.parametrize("size", [33, 64])
@pytest.mark.parametrize("hw", [(64, 64), (50, 20), (20, 51), (300, 201), (1, 1), (1, 200)])
def test_a_photograph_is_fitted_as_the_warp_does(hw, size):
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    expected = warp.warp_image(image, geometry.box_matrix(geometry.photograph_box(hw), size), size)
    found = np.asarray(program.fit(image[None], size))[0]
    # OpenCV rounds positions to float32; the whole numbers here are exact.
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_the_fit_at_whole_factors_is_exact_in_every_level():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3) * 5
    np.testing.assert_array_equal(program.fit(image, 4), image)
    means = image.reshape(1, 2, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_array_equal(program.fit(image, 2), np.floor(means + 0.5))


@pytest.mark.parametrize("hw", [(40, 40), (70, 30), (5, 9), (1, 33)])
def test_logits_go_back_as_resize_and_unwarp_bring_them(hw):
    size, side = 33, 9
    logits = np.random.default_rng(0).normal(size=(side, side, 4)).astype(np.float32)
    rows, columns = (
        np.asarray(program.back_matrix(count, count, max(hw), size, side)) for count in hw
    )
    found = np.einsum("hi,wj,ijc->hwc", rows, columns, logits)
    at_input = unwarp.interpolation_matrix(size, side)
    at_input = np.einsum("hi,wj,ijc->hwc", at_input, at_input, logits).astype(np.float32)
    matrix = geometry.box_matrix(geometry.photograph_box(hw), size)
    expected = unwarp.sample(at_input, matrix, hw)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("hw", [(40, 40), (300, 130), (5, 9), (1, 33)])
def test_a_program_of_one_size_gives_the_labels_of_the_one_of_all(hw):
    def core(images):
        logits = np.random.default_rng(1).normal(size=(9, 9, 4)).astype(np.float32)
        return logits + images[:, ::4, ::4, :1] / 255

    images = np.random.default_rng(0).integers(0, 256, (2, *hw, 3), np.uint8)
    labels = jax.jit(program.make_program(core, 33))(images)
    fixed = jax.jit(program.make_fixed_program(core, 33, hw))(images)
    assert fixed.dtype == np.uint8
    np.testing.assert_array_equal(fixed, labels)
    assert len(np.unique(fixed)) > 1


def test_an_input_that_32_bits_cannot_hold_is_refused():
    whole = np.full((1, 2, 2, 3), 255, np.uint8)
    assert np.asarray(jax.jit(program.fit, static_argnums=1)(whole, program.MAX_SIZE)).max() == 255
    metadata = dataclasses.replace(small_checkpoints.METADATA, image_size=program.MAX_SIZE + 1)
    with pytest.raises(UserError, match="1451 pixels a side"):
        program.check_size(metadata)
