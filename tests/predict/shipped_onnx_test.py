"""The model in the box as an ONNX runtime runs it."""

import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax import FaceParser
from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.checkpoints.fingerprint import fingerprint
from dmlcsr_jax.predict import __main__ as predict
from dmlcsr_jax.predict import networks

onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'dmlcsr_jax[onnx]'")
PORTRAIT = pathlib.Path(__file__).parents[2] / "docs" / "astronaut.jpg"


def test_it_was_made_of_the_weights_beside_it():
    session = onnxruntime.InferenceSession(networks.EXPORTED_DEFAULT)
    said = session.get_modelmeta().custom_metadata_map
    metadata, variables = model.load_model("default")
    assert said["fingerprint"] == fingerprint(model.for_inference(metadata, variables))
    assert FaceParser(backend="onnx").metadata == metadata


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_its_labels_are_those_of_jax(backend):
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    exact = FaceParser(backend="jax", faces="whole")(PORTRAIT).label
    found = FaceParser(backend=backend, faces="whole")(PORTRAIT).label
    assert np.mean(found == exact) > 0.9995


def test_it_is_taken_by_itself_without_jax(tmp_path):
    program = (
        "import sys; from dmlcsr_jax.predict.__main__ import main; main(sys.argv[1:]);"
        "print(sorted({'jax', 'flax', 'orbax', 'tensorflow'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", program, str(PORTRAIT), f"--out={tmp_path}"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "; run by O" in result.stdout
    assert ", float32\n" in result.stdout
    assert result.stdout.rstrip().endswith("[]")


def test_an_accelerator_or_a_word_brings_jax_back(tmp_path, monkeypatch, capsys):
    predict.main([str(PORTRAIT), f"--out={tmp_path / 'a'}", "--backend=jax"])
    assert "; run by JAX, float32, on " in capsys.readouterr().out
    monkeypatch.setattr(networks, "may_have_accelerator", lambda: True)
    predict.main([str(PORTRAIT), f"--out={tmp_path / 'b'}"])
    assert "; run by JAX, float32, on " in capsys.readouterr().out
    a, b = (PIL.Image.open(tmp_path / name / "labels" / "astronaut.png") for name in "ab")
    np.testing.assert_array_equal(a, b)
