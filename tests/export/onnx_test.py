import json
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from dmlcsr_jax import FaceParser
from dmlcsr_jax.checkpoints import ship
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.export import __main__ as export
from dmlcsr_jax.export import web_folder
from dmlcsr_jax.predict import __main__ as predict
from dmlcsr_jax.predict.onnx_network import OnnxNetwork

onnx = pytest.importorskip("onnx", reason="needs pip install 'dmlcsr_jax[export]'")
pytest.importorskip("jax2onnx", reason="needs pip install 'dmlcsr_jax[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'dmlcsr_jax[onnx]'")


@pytest.fixture(scope="module")
def exported(tiny_checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={path}"])
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    return path


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def parser(exported, request):
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="needs pip install 'dmlcsr_jax[openvino]'")
    return OnnxNetwork(exported, backend=request.param)


def test_labels_are_those_of_the_network_in_jax(parser, tiny_truth, faces):
    found = [parser.labels(face) for face in faces]
    for face, labels in zip(faces, found, strict=True):
        tiny_truth.assert_agrees(face, labels)
    assert len(np.unique(np.concatenate([labels.ravel() for labels in found]))) > 2


def test_a_batch_is_its_photographs_one_by_one(exported, faces):
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    batch = np.stack([faces[1], faces[1][::-1], faces[1] // 2])
    declared = {output.name: output.shape for output in session.get_outputs()}
    assert declared == {"labels": ["B", "H", "W"], "logits": ["B", 8, 8, 11]}
    labels, logits = session.run(["labels", "logits"], {"images": batch})
    assert logits.shape == (3, 8, 8, 11)
    parser = OnnxNetwork(exported, backend="onnx")
    for image, found in zip(batch, labels, strict=True):
        np.testing.assert_array_equal(found, parser.labels(image))


def test_logits_are_those_of_the_network_in_jax(parser, tiny_truth):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = tiny_truth.input_scores(images)
    np.testing.assert_allclose(parser.logits(images), expected, atol=1e-4)


def test_scores_by_option_and_one_size_by_option(tiny_checkpoint, tiny_truth, faces, tmp_path):
    path = tmp_path / "scores.onnx"
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={path}", "--scores", "--size=75,50"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["B", 75, 50, 3]
    scores = session.run(["scores"], {"images": faces[1][None]})[0][0]
    np.testing.assert_allclose(scores, tiny_truth.scores(faces[1]), atol=2e-4)
    with pytest.raises(UserError, match="gives scores; export it without --scores"):
        OnnxNetwork(path)
    path = tmp_path / "labels.onnx"
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={path}", "--size=75,50"])
    parser = OnnxNetwork(path)
    tiny_truth.assert_agrees(faces[1], parser.labels(faces[1]))
    with pytest.raises(UserError, match="photographs of 75x50 pixels, not of 21x29"):
        parser.labels(faces[2])


def test_the_file_is_standard_onnx_of_opset_17_and_says_what_it_is(exported, tiny_truth):
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    operations = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in operations
    assert {"Sqrt", "Expand"}.isdisjoint(operations)  # of a norm that is not folded
    said = {entry.key: entry.value for entry in model.metadata_props}
    label_set = tiny_truth.metadata.label_set
    assert json.loads(said["classes"]) == list(label_set.classes)
    assert json.loads(said["palette"])[1] == list(label_set.palette[1])
    assert json.loads(said["left_right_pairs"]) == [list(p) for p in label_set.mirror_pairs]
    assert said["left_is"] in said["convention"]
    assert said["license"] == "for tests"
    assert json.loads(said["image_size"]) == 32
    assert len(bytes.fromhex(said["fingerprint"])) == 32
    assert OnnxNetwork(exported).metadata == tiny_truth.metadata


def test_running_it_imports_no_jax(exported):
    program = (
        "import sys, numpy as np; from dmlcsr_jax.predict.onnx_network import OnnxNetwork;"
        "OnnxNetwork(sys.argv[1]).labels(np.zeros((20, 30, 3), np.uint8));"
        "print(sorted({'jax', 'flax', 'orbax', 'tensorflow'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", program, str(exported)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_openvino_reports_nothing_to_its_makers(exported):
    pytest.importorskip("openvino", reason="needs pip install 'dmlcsr_jax[openvino]'")
    program = (
        "import os, sys; os.fork = lambda: sys.exit('forked');"
        "from dmlcsr_jax.predict.onnx_network import OnnxNetwork;"
        "OnnxNetwork(sys.argv[1], backend='openvino');"
        "print(any(name.startswith('openvino_telemetry.') for name in sys.modules))"
    )
    arguments = [sys.executable, "-c", program, str(exported)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("flip", [False, True])
def test_face_parser_runs_it_as_it_runs_the_checkpoint(exported, tiny_checkpoint, faces, flip):
    options = {"faces": "whole", "batch_size": 2, "flip": flip}
    boxes = [[(5, 5, 40, 45), (20, 10, 60, 50)], None, [(0, 0, 20, 20)]]
    theirs = FaceParser(tiny_checkpoint, **options)
    ours = FaceParser(exported, backend="onnx", **options)
    given = [boxes_of or [] for boxes_of in boxes]
    expected, found = (parser(list(faces[:3]), faces=given) for parser in (theirs, ours))
    for one, other in zip(expected, found, strict=True):
        assert np.mean(one.label != other.label) < 1e-3
        assert np.mean(one.instances != other.instances) < 1e-3
        for part in other.names[1:3]:
            np.testing.assert_allclose(
                other.probabilities(part), one.probabilities(part), atol=1e-3
            )
    assert len(ours.network.fingerprint) == 64


def test_face_parser_runs_it_without_jax(exported):
    program = (
        "import sys, numpy as np; from dmlcsr_jax import FaceParser;"
        "FaceParser(sys.argv[1])(np.zeros((20, 30, 3), np.uint8));"
        "print(sorted({'jax', 'flax', 'orbax', 'tensorflow'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", program, str(exported)]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_predict_takes_it_as_its_checkpoint(exported, faces, tmp_path, capsys):
    PIL.Image.fromarray(faces[1]).save(tmp_path / "face.png")
    inputs = [str(tmp_path / "face.png"), f"--checkpoint={exported}", "--backend=onnx"]
    predict.main([*inputs, f"--out={tmp_path / 'parsed'}", "--faces=whole"])
    label = np.asarray(PIL.Image.open(tmp_path / "parsed" / "labels" / "face.png"))
    expected = FaceParser(exported, backend="onnx", faces="whole")(faces[1]).label
    np.testing.assert_array_equal(label, expected)
    capsys.readouterr()
    predict.main(["--classes", f"--checkpoint={exported}"])
    table = capsys.readouterr().out
    assert all(name in table for name in OnnxNetwork(exported).metadata.label_set.classes)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"scales": (0.5, 1.0)}, "runs at the size that it was exported with"),
        ({"dtype": "float64"}, "'float64'; it must be float32 or bfloat16"),
        ({"dtype": "bfloat16", "backend": "onnx"}, "computes in float32, not in bfloat16"),
        ({"backend": "jax"}, "does not run on JAX; give the checkpoint"),
        ({"backend": "tpu"}, "backend 'tpu' is unknown: choose one of jax, openvino, onnx"),
    ],
)
def test_face_parser_refuses_what_a_file_cannot_do(exported, options, sentence):
    with pytest.raises(UserError, match=sentence):
        FaceParser(exported, **options)


def test_openvino_computes_in_bfloat16_where_it_is_told(exported, faces):
    pytest.importorskip("openvino", reason="needs pip install 'dmlcsr_jax[openvino]'")
    exact, rounded = (
        OnnxNetwork(exported, backend="openvino", dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    assert rounded.runtime == "OpenVINO, bfloat16"
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    scores = exact.logits(images)
    # Where the processor cannot, OpenVINO computes in float32 all the same.
    assert np.abs(rounded.logits(images) - scores).max() < 0.1 * np.abs(scores).max()
    parser = FaceParser(exported, backend="openvino", dtype="bfloat16", faces="whole")
    agreeing = parser(faces[0]).label == exact.labels(faces[0])
    assert agreeing.mean() > 0.9


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_files_that_are_no_model_of_this_project_are_refused(exported, tmp_path, backend):
    pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
    data = exported.read_bytes()
    other = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>\n g (float[N] x) => (float[N] y) { y = Abs(x) }'
    )
    contents = {
        "text.onnx": (b"not a model", r"text\.onnx is no complete ONNX model"),
        "half.onnx": (data[: len(data) // 2], r"half\.onnx is no complete ONNX model"),
        "empty.onnx": (b"", r"empty\.onnx is no complete ONNX model"),
        "other.onnx": (other.SerializeToString(), r"other\.onnx is a model of another project"),
    }
    for name, (content, sentence) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            OnnxNetwork(tmp_path / name, backend=backend)
    with pytest.raises(UserError, match=r"missing\.onnx is not a file"):
        OnnxNetwork(tmp_path / "missing.onnx", backend=backend)
    with pytest.raises(UserError, match="backend 'tpu' is unknown: choose one of openvino, onnx"):
        OnnxNetwork(exported, backend="tpu")


@pytest.mark.parametrize(
    "image", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), None]
)
def test_what_is_no_photograph_is_refused(parser, image):
    with pytest.raises(UserError, match=r"a uint8 array \[H, W, 3\]"):
        parser.labels(image)


def test_a_missing_extra_is_named_with_its_command(
    exported, tiny_checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'dmlcsr_jax\[onnx\]'"):
        OnnxNetwork(exported)
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    monkeypatch.delitem(sys.modules, "dmlcsr_jax.export.onnx_graph")
    path = tmp_path / "model.onnx"
    with pytest.raises(SystemExit):
        export.main([f"--checkpoint={tiny_checkpoint}", f"--out={path}"])
    assert "pip install 'dmlcsr_jax[export]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_parsing_head_of_all_depths_is_exported(random_checkpoint, truth_of, tmp_path):
    checkpoint = random_checkpoint(multi_scale_parsing=True)
    export.main([f"--checkpoint={checkpoint}", f"--out={tmp_path}/model.onnx"])
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    network = OnnxNetwork(tmp_path / "model.onnx", backend="onnx")
    assert network.metadata.multi_scale_parsing
    expected = truth_of(checkpoint).input_scores(images)
    np.testing.assert_allclose(network.logits(images), expected, atol=1e-5 * np.abs(expected).max())


def test_weights_in_float16_halve_the_file_and_keep_the_labels(
    tiny_checkpoint, tiny_truth, exported, faces, tmp_path
):
    path = tmp_path / "half.onnx"
    export.main([f"--checkpoint={tiny_checkpoint}", f"--out={path}", "--dtype=float16"])
    assert path.stat().st_size < 0.6 * exported.stat().st_size
    onnx.checker.check_model(onnx.load(path), full_check=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    for backend in ("onnx", "openvino"):
        pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
        scores = OnnxNetwork(path, backend=backend).logits(images)
        expected = tiny_truth.input_scores(images)
        assert 0 < np.abs(scores - expected).mean() < 2e-3 * expected.std()


def test_kernels_may_stay_in_the_weights_file(tiny_checkpoint, truth_of, tmp_path, capsys):
    weights = tmp_path / "tiny.safetensors"
    ship.main([f"--checkpoint={tiny_checkpoint}", f"--out={weights}", "--license=for tests"])
    path = tmp_path / "tiny.onnx"
    export.main([f"--checkpoint={weights}", f"--out={path}", "--shared"])
    assert path.stat().st_size < 0.5 * weights.stat().st_size
    onnx.checker.check_model(path, full_check=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = truth_of(weights).input_scores(images)
    for backend in ("onnx", "openvino"):
        pytest.importorskip({"onnx": "onnxruntime"}.get(backend, backend))
        scores = OnnxNetwork(path, backend=backend).logits(images)
        np.testing.assert_allclose(scores, expected, atol=1e-4)
    weights.rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(UserError, match=r"tiny\.onnx cannot .*tiny\.safetensors is not there"):
        OnnxNetwork(path, backend="onnx")
    for arguments, sentence in (
        ([f"--checkpoint={tiny_checkpoint}", f"--out={path}"], "into its folder, not"),
        ([f"--out={tmp_path}/default.onnx"], "into its folder, not"),
        ([f"--out={path}", "--dtype=float16"], "without --dtype and --quantize"),
    ):
        with pytest.raises(SystemExit):
            export.main([*arguments, "--shared"])
        assert sentence in capsys.readouterr().err


def test_a_page_takes_an_exported_model_as_it_is(exported, tmp_path, monkeypatch, capsys):
    runtime = {"ort.wasm.min.mjs": b"runtime"}
    monkeypatch.setattr(web_folder, "_runtime", lambda: runtime)
    folder = tmp_path / "web"
    export.main([f"--checkpoint={exported}", f"--out={folder}/"])
    assert (folder / "model.onnx").read_bytes() == exported.read_bytes()
    assert (folder / "ort.wasm.min.mjs").read_bytes() == b"runtime"
    about = json.loads((folder / "model.json").read_text())
    label_set = OnnxNetwork(exported).metadata.label_set
    assert about["classes"] == list(label_set.classes)
    assert (about["license"], about["weights"]) == ("for tests", None)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(exported.read_bytes())
    copy.with_suffix(".safetensors").write_bytes(b"kernels")
    export.main([f"--checkpoint={copy}", f"--out={folder}/"])
    assert json.loads((folder / "model.json").read_text())["weights"] == "copy.safetensors"
    assert (folder / "copy.safetensors").read_bytes() == b"kernels"
    with pytest.raises(SystemExit):
        export.main([f"--checkpoint={exported}", f"--out={folder}/", "--dtype=float16"])
    assert "stays as it is; leave --quantize and --dtype" in capsys.readouterr().err
