"""Exported networks on LiteRT."""

import json

import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.data import synthetic
from dmlcsr_jax.export import __main__ as export

interpreter = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="needs pip install 'dmlcsr_jax[litert]'"
)
pytest.importorskip("litert_converter", reason="needs pip install 'dmlcsr_jax[litert]'")


def run(path, image):
    """Returns what the file's only output is for a photograph."""
    runner = interpreter.Interpreter(model_path=str(path)).get_signature_runner()
    (output,) = runner(images=image[None]).values()
    return output[0]


def said(path):
    """Returns what the file says of itself, by name."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    return {
        entry.name.decode(): bytes(model.buffers[entry.buffer].data).decode()
        for entry in model.metadata
        if model.buffers[entry.buffer].data is not None
    }


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for index in range(8):
        PIL.Image.fromarray(synthetic.draw_face(index, 48)[0]).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("face", [0, 1, 2, 3])
def test_labels_are_those_of_the_network_in_jax(face, tiny_checkpoint, tiny_truth, faces, tmp_path):
    image, path = faces[face], tmp_path / "model.tflite"
    size = f"--size={image.shape[0]},{image.shape[1]}"
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={path}", size])
    assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]
    tiny_truth.assert_agrees(image, run(path, image))


def test_without_a_size_it_is_the_networks_and_scores_come_by_option(
    tiny_checkpoint, tiny_truth, faces, tmp_path
):
    path = tmp_path / "model.tflite"
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={path}", "--scores"])
    assert faces[0].shape == (32, 32, 3)
    np.testing.assert_allclose(run(path, faces[0]), tiny_truth.scores(faces[0]), atol=2e-4)


def test_the_file_says_what_it_is(tiny_checkpoint, tiny_truth, tmp_path):
    path = tmp_path / "model.tflite"
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={path}"])
    properties = said(path)
    assert json.loads(properties["classes"]) == list(tiny_truth.metadata.label_set.classes)
    assert properties["license"] == "for tests"
    assert len(properties["fingerprint"]) >= 16
    assert "quantized" not in properties


def test_weights_in_16_bits_halve_the_file_and_keep_the_scores(tiny_checkpoint, faces, tmp_path):
    plain, half = tmp_path / "plain.tflite", tmp_path / "half.tflite"
    options = [f"--checkpoint={tiny_checkpoint}", "--scores"]
    export.main([*options, f"--out={plain}"])
    export.main([*options, f"--out={half}", "--dtype=float16"])
    assert half.stat().st_size < 0.6 * plain.stat().st_size
    scores = run(plain, faces[0])
    error = np.abs(run(half, faces[0]) - scores)
    assert 0 < error.max() < 0.02 * np.abs(scores).max()


def test_convolutions_in_8_bits_keep_the_scores(tiny_checkpoint, photographs, faces, tmp_path):
    plain, small = tmp_path / "plain.tflite", tmp_path / "small.tflite"
    options = [f"--checkpoint={tiny_checkpoint}", "--scores"]
    export.main([*options, f"--out={plain}"])
    export.main([*options, f"--out={small}", "--quantize=int8", f"--calibrate={photographs}"])
    assert small.stat().st_size < 0.5 * plain.stat().st_size
    assert said(small)["quantized"] == "int8"
    tensors = interpreter.Interpreter(model_path=str(small)).get_tensor_details()
    kernels = [tensor for tensor in tensors if tuple(tensor["shape"][1:3]) == (3, 3)]
    of_photograph = [kernel for kernel in kernels if kernel["shape"][3] == 3]
    assert [kernel["dtype"] for kernel in of_photograph] == [np.float32]
    assert np.int8 in {kernel["dtype"] for kernel in kernels}
    scores = run(plain, faces[0])
    error = np.abs(run(small, faces[0]) - scores)
    assert 0 < error.mean() < 0.2 * scores.std()
