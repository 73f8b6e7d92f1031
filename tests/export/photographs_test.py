"""Exported networks of full size on real photographs."""

import cv2
import numpy as np
import pytest

from dmlcsr_jax.checkpoints import weights_file
from dmlcsr_jax.export import __main__ as export
from dmlcsr_jax.predict.onnx_network import OnnxNetwork

SIZES = [(512, 512), (640, 430), (300, 400)]


@pytest.fixture(scope="module")
def photographs(shared_dir):
    paths = sorted((shared_dir / "data" / "celebamask_hq_mini" / "images").glob("*.jpg"))
    images = [cv2.imread(str(path))[..., ::-1] for path in paths[: len(SIZES)]]
    # A part of a photograph has the other shapes.
    return [
        np.ascontiguousarray(cv2.resize(image, (max(hw), max(hw)))[: hw[0], : hw[1]])
        for image, hw in zip(images, SIZES, strict=True)
    ]


@pytest.fixture(scope="module", params=["default", "resnet101"])
def checkpoint(request, random_checkpoint):
    if request.param == "default":
        if not weights_file.DEFAULT_FILE.is_file():
            pytest.skip("the model in the box is not in this checkout")
        return request.param
    return random_checkpoint(encoder="resnet101", stem="deep", width=1.0, image_size=473)


@pytest.mark.slow
def test_labels_are_those_of_the_network_in_jax(checkpoint, truth_of, photographs, tmp_path):
    pytest.importorskip("jax2onnx", reason="needs pip install 'dmlcsr_jax[export]'")
    path = tmp_path / "model.onnx"
    export.main([f"--checkpoint={checkpoint}", f"--out={path}"])
    parser, truth = OnnxNetwork(path, backend="onnx"), truth_of(checkpoint)
    for image in photographs:
        truth.assert_agrees(image, parser.labels(image))


@pytest.mark.slow
def test_labels_on_litert_are_those_of_the_network_in_jax(
    checkpoint, truth_of, photographs, tmp_path
):
    reason = "needs pip install 'dmlcsr_jax[litert]'"
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason=reason)
    pytest.importorskip("litert_converter", reason=reason)
    path, truth = tmp_path / "model.tflite", truth_of(checkpoint)
    for image in photographs:
        size = f"--size={image.shape[0]},{image.shape[1]}"
        export.main([f"--checkpoint={checkpoint}", f"--out={path}", size])
        runner = interpreter.Interpreter(model_path=str(path)).get_signature_runner()
        truth.assert_agrees(image, runner(images=image[None])["labels"][0])
