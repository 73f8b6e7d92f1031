"""Networks in 8 bits."""

import importlib.util
import re

import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import geometry, synthetic, warp
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.export import __main__ as export
from dmlcsr_jax.export import calibration
from dmlcsr_jax.predict.onnx_network import OnnxNetwork

needs_converter = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "jax2onnx", "onnxruntime"))),
    reason="needs pip install 'dmlcsr_jax[export]'",
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for index in range(12):
        image, _ = synthetic.draw_face(index, 64 + 3 * index)
        PIL.Image.fromarray(image[: 60 + index]).save(folder / f"{index:02d}.png")
    return folder


def test_inputs_are_the_photographs_as_the_network_sees_them(photographs):
    inputs = list(calibration.calibration_inputs(photographs, 32))
    assert len(inputs) == 12
    for index, found in enumerate(inputs):
        assert (found.shape, found.dtype) == ((1, 32, 32, 3), np.float32)
        image = np.asarray(PIL.Image.open(photographs / f"{index:02d}.png"))
        matrix = geometry.box_matrix(geometry.photograph_box(image.shape[:2]), 32)
        np.testing.assert_allclose(found[0], warp.warp_image(image, matrix, 32), atol=4)


def test_many_photographs_are_thinned_evenly(photographs, monkeypatch):
    monkeypatch.setattr(calibration, "MAX_PHOTOGRAPHS", 4)
    every = list(calibration.calibration_inputs(photographs, 16))
    assert len(every) == 4
    monkeypatch.setattr(calibration, "MAX_PHOTOGRAPHS", 100)
    everything = list(calibration.calibration_inputs(photographs, 16))
    np.testing.assert_array_equal(np.stack(every), np.stack(everything)[::3])


def test_what_cannot_calibrate_is_named(tmp_path, photographs):
    with pytest.raises(UserError, match="holds no photograph to calibrate by"):
        next(calibration.calibration_inputs(tmp_path, 32))
    (tmp_path / "cut.png").write_bytes((photographs / "00.png").read_bytes()[:200])
    with pytest.raises(UserError, match=r"cut\.png"):
        next(calibration.calibration_inputs(tmp_path, 32))


@pytest.mark.parametrize("hw", [(32, 32), (40, 24), (24, 40)])
def test_photographs_of_one_size_are_middles_of_what_fits_the_longer_side(hw, photographs):
    found = list(calibration.calibration_photographs(photographs, hw))
    assert len(found) == 12
    size = max(hw)
    top, left = (size - hw[0]) // 2, (size - hw[1]) // 2
    inputs = calibration.calibration_inputs(photographs, size)
    for image, square in zip(found, inputs, strict=True):
        assert (image.shape, image.dtype) == ((*hw, 3), np.uint8)
        expected = square[0, top : top + hw[0], left : left + hw[1]]
        np.testing.assert_allclose(image, expected, atol=4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out=m.onnx", "--quantize=int8"], "go together; give both"),
        (["--out=m.onnx", "--calibrate=x"], "go together; give both"),
        (
            ["--out=m.stablehlo", "--quantize=int8", "--calibrate=x"],
            r"--quantize is for \.onnx and \.tflite",
        ),
        (["--out=m.stablehlo", "--dtype=float16"], r"--dtype is for \.onnx and \.tflite"),
        (["--out=m.onnx", "--dtype=float16", "--quantize=int8", "--calibrate=x"], "give one of"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, sentence, capsys):
    with pytest.raises(SystemExit):
        export.main(options)
    assert re.search(sentence, capsys.readouterr().err)


@needs_converter
def test_convolutions_are_in_8_bits_and_labels_stay(tiny_checkpoint, photographs, faces, tmp_path):
    import onnx

    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={plain}"])
    options = ["--quantize=int8", f"--calibrate={photographs}"]
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={small}", *options])
    assert small.stat().st_size < 0.5 * plain.stat().st_size
    model = onnx.load(small)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    inputs = [makers.get(n.input[0]) for n in model.graph.node if n.op_type == "Conv"]
    assert inputs[0] != "DequantizeLinear"
    assert inputs[-1] != "DequantizeLinear"
    assert inputs.count("DequantizeLinear") > len(inputs) / 2
    exact, rounded = OnnxNetwork(plain, backend="onnx"), OnnxNetwork(small, backend="onnx")
    assert rounded.metadata == exact.metadata
    images = np.concatenate([*calibration.calibration_inputs(photographs, 32)]).astype(np.uint8)
    scores = exact.logits(images)
    error = np.abs(rounded.logits(images) - scores)
    assert 0 < error.mean() < 0.2 * scores.std()
