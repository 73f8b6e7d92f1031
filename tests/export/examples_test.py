"""The scripts of `docs/examples` that run exported files."""

import pathlib
import runpy
import sys

import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax.export import __main__ as export

EXAMPLES = pathlib.Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.parametrize(
    ("example", "suffix", "needs"),
    [
        ("run_onnx.py", ".onnx", ("onnxruntime", "jax2onnx")),
        ("run_litert.py", ".tflite", ("ai_edge_litert", "litert_converter")),
        ("run_stablehlo.py", ".stablehlo", ()),
    ],
)
def test_it_labels_a_photograph(
    example, suffix, needs, tiny_checkpoint, tiny_truth, faces, tmp_path, monkeypatch, capsys
):
    for module in needs:
        pytest.importorskip(module, reason="needs pip install 'dmlcsr_jax[export,litert]'")
    model, photograph, target = (tmp_path / name for name in (f"m{suffix}", "p.png", "l.png"))
    image = faces[1]
    size = [f"--size={image.shape[0]},{image.shape[1]}"] if suffix == ".tflite" else []
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={model}", *size])
    PIL.Image.fromarray(image).save(photograph)
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [example, str(model), str(photograph), str(target)])
    before = set(sys.modules)
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    assert not {name for name in set(sys.modules) - before if name.startswith("dmlcsr_jax")}
    labels = np.asarray(PIL.Image.open(target))
    tiny_truth.assert_agrees(image, labels)
    if suffix != ".tflite":
        classes = tiny_truth.metadata.label_set.classes
        assert capsys.readouterr().out.split() == [classes[index] for index in np.unique(labels)]
