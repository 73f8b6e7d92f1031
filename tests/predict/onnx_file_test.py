"""ONNX files that anybody may have written: damaged, hostile, or of other inputs and outputs."""

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest
import safetensors.numpy
from small_checkpoints import METADATA

from dmlcsr_jax import FaceParser
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.properties import COMPLETE
from dmlcsr_jax.predict import networks
from dmlcsr_jax.predict.onnx_network import OnnxNetwork

onnx = pytest.importorskip("onnx", reason="needs pip install 'dmlcsr_jax[onnx]'")
pytest.importorskip("onnxruntime", reason="needs pip install 'dmlcsr_jax[onnx]'")
from small_onnx import CLASSES, LABELS, LOGITS, MAKES_LABELS, MAKES_LOGITS, small_onnx  # noqa: E402

IMAGE = np.full((8, 8, 3), 254, np.uint8)
ENDLESS = """{result} = Loop<body = on (int64 round, bool going) => (bool still, {type} made) {{
    still = Identity(going)
    made = Identity({outer})
}}>({count}, always)"""


@pytest.fixture(params=["onnx", "openvino"])
def backend(request):
    pytest.importorskip({"onnx": "onnxruntime"}.get(request.param, request.param))
    return request.param


@pytest.fixture
def written(tmp_path):
    """Writes a model whose text has changes, `old, new` each."""

    def written(*changes, change=lambda model: None, **options):
        model = small_onnx(*changes, **options)
        change(model)
        path = tmp_path / "made.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return written


def replaced(model, value):
    """Returns the first tensor of a model after all of its values have been set."""
    values = np.full((1, 4, 4, CLASSES), value, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "base"))
    return model.graph.initializer[0]


def test_a_file_of_others_that_keeps_the_rules_runs(written, backend):
    network = OnnxNetwork(written(), backend=backend)
    np.testing.assert_allclose(
        network.logits(IMAGE[None]), np.full((1, 32, 32, CLASSES), 255), 1e-6
    )
    np.testing.assert_array_equal(network.labels(IMAGE), np.zeros((8, 8)))


@pytest.mark.parametrize(
    "changes",
    [
        [("uint8[B,H,W,3] images", "float[B,H,W,3] images")],
        [("uint8[B,H,W,3] images", "uint8[B,H,W,4] images")],
        [("images", "pictures")],
        [("uint8[B,H,W,3] images", "uint8[B,H,W,3] images, float[1] more")],
        [(f"{LABELS}, ", "")],
        [(f", {LOGITS}", "")],
        [(LABELS, "float[B,H,W] labels"), (MAKES_LABELS, "labels = Cast<to = 1>(most)")],
        [(f"float[B,4,4,{CLASSES}] logits", f"float[B,4,4,{CLASSES + 1}] logits")],
        [(f"float[B,4,4,{CLASSES}] logits", f"float[B,4,5,{CLASSES}] logits")],
        [(f"float[B,4,4,{CLASSES}] logits", f"float[B,N,N,{CLASSES}] logits")],
        [(f"float[B,4,4,{CLASSES}] logits", "float logits")],
    ],
)
def test_other_inputs_and_outputs_are_refused(written, changes):
    with pytest.raises(UserError, match=r"made\.onnx must (take `images`|give `labels`), uint8 "):
        OnnxNetwork(written(*changes))


def test_shapes_and_labels_that_are_not_those_declared_are_refused(written, backend):
    smaller = "shape = Concat<axis = 0>(one, one, one, one)\n flat = Expand(mean, shape)\n"
    path = written((MAKES_LOGITS, f"{smaller} logits = Identity(flat)"))
    sentence = r"gives logits of shape \(1, 1, 1, 1\) where|is no complete|does not run"
    with pytest.raises(UserError, match=sentence):
        OnnxNetwork(path, backend=backend).logits(IMAGE[None])
    path = written((MAKES_LABELS, "labels = Identity(most)"))
    with pytest.raises(UserError, match=f"gives the label 254 but has {CLASSES} classes"):
        OnnxNetwork(path, backend=backend).labels(IMAGE)


def test_what_a_runtime_cannot_run_is_said_in_a_sentence(written, backend):
    path = written((MAKES_LABELS, "labels = Reshape(most, one)"))
    with pytest.raises(UserError, match=r"made\.onnx (does not run|is no complete)"):
        OnnxNetwork(path, backend=backend).labels(IMAGE)


def test_scores_that_are_not_finite_are_refused(written, backend):
    path = written(
        (MAKES_LOGITS, "none = Sub(mean, mean)\n nan = Div(none, none)\n logits = Add(nan, base)")
    )
    with pytest.raises(UserError, match="scores are not finite"):
        FaceParser(path, backend=backend, faces="whole")(IMAGE)


def test_a_missing_file_is_not_called_a_missing_runtime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"model\.onnx is not a file"):
        FaceParser(tmp_path / "model.onnx")


def test_control_flow_on_the_way_to_the_logits_is_refused(written):
    kind = f"float[1,4,4,{CLASSES}]"
    loop = ENDLESS.format(result="logits", type=kind, outer="base", count="huge")
    choice = (
        f"logits = If<then_branch = a () => ({kind} one_way) {{ one_way = Identity(base) }},"
        f"else_branch = b () => ({kind} other) {{ other = Identity(base) }}>(always)"
    )
    for text in (loop, choice):
        with pytest.raises(UserError, match=r"made\.onnx has control flow, which may never end"):
            OnnxNetwork(written((MAKES_LOGITS, text)))


@pytest.mark.parametrize("count", ["huge", ""])
def test_the_loop_that_makes_labels_ends(written, backend, count):
    loop = ENDLESS.format(result="rounds", type="int64[1]", outer="one", count=count)
    path = written(
        (MAKES_LABELS, f"{loop}\n shown = Cast<to = 2>(rounds)\n labels = Identity(shown)")
    )
    with pytest.raises(UserError, match=r"gives labels of shape \(65536, 1\) where|is no complete"):
        OnnxNetwork(path, backend=backend).labels(IMAGE)


def test_operations_of_other_makers_are_refused(written):
    path = written((MAKES_LABELS, "labels = other.Sub(most, most)"), opsets='"" : 17, "other" : 1')
    with pytest.raises(UserError, match=r"made\.onnx has operations that are not ONNX's own"):
        OnnxNetwork(path)


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {COMPLETE: "["},
        {COMPLETE: "3"},
        {COMPLETE: "[" * 100_000},
        {COMPLETE: json.dumps(METADATA.to_json() | {"mean": [10**400, 0, 0]})},
        {COMPLETE: json.dumps(METADATA.to_json() | {"label_set": None})},
    ],
)
def test_properties_that_do_not_describe_the_model_are_refused(written, properties):
    sentence = r"made\.onnx (is a model of another project|does not describe its model)"
    with pytest.raises(UserError, match=sentence):
        OnnxNetwork(written(properties=properties))


@pytest.mark.parametrize("place", ["../made.safetensors", "/etc/passwd", "other.bin"])
def test_tensors_are_taken_from_a_weights_file_beside_it_alone(written, place):
    def change(model):
        tensor = replaced(model, 1.0)
        onnx.external_data_helper.set_external_data(tensor, location=place, offset=0, length=4)
        tensor.data_location = onnx.TensorProto.EXTERNAL

    (path := written(change=change)).with_name("other.bin").write_bytes(bytes(1000))
    with pytest.raises(UserError, match=r"it may from one \.safetensors file beside it alone"):
        OnnxNetwork(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_of_it_that_are_not_finite_are_refused(written, value):
    path = written(change=lambda model: replaced(model, value))
    with pytest.raises(UserError, match=r"the tensor base has .* values that are not finite"):
        OnnxNetwork(path)


class TestTheModelInTheBox:
    """Its graph and its weights are two files."""

    @pytest.fixture
    def copy(self, tmp_path):
        for file in networks.EXPORTED_DEFAULT.parent.glob(f"{networks.EXPORTED_DEFAULT.stem}.*"):
            shutil.copy(file, tmp_path)
        return tmp_path / networks.EXPORTED_DEFAULT.name

    @staticmethod
    def change(weights, change, *, is_described):
        """Changes the weights, and their SHA-256 too where that is described."""
        tensors = safetensors.numpy.load_file(weights)
        name = next(name for name in sorted(tensors) if name.endswith("kernel"))
        tensors[name] = change(tensors[name].copy())
        safetensors.numpy.save_file(tensors, weights)
        if is_described:
            about = json.loads(weights.with_suffix(".json").read_text())
            about["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
            weights.with_suffix(".json").write_text(json.dumps(about))

    @pytest.mark.parametrize(
        ("change", "is_described", "sentence"),
        [
            (lambda kernel: kernel * np.nan, False, "is damaged or not the file of"),
            (lambda kernel: kernel * 0, False, "is damaged or not the file of"),
            (lambda kernel: kernel[::-1].copy(), False, "is damaged or not the file of"),
            (lambda kernel: kernel * np.nan, True, "values that are not finite"),
            (lambda kernel: kernel * 0, True, r"is not what .*\.onnx was made of"),
        ],
    )
    def test_changed_weights_are_refused_as_jax_refuses_them(
        self, copy, backend, change, is_described, sentence
    ):
        weights = copy.with_suffix(".safetensors")
        self.change(weights, change, is_described=is_described)
        with pytest.raises(UserError, match=sentence):
            OnnxNetwork(copy, backend=backend)

    def test_a_changed_byte_of_the_graph_file_is_noticed(self, copy):
        data = bytearray(copy.read_bytes())
        name = b"behind/resize"
        place = data.index(name) + 1000  # Amid numbers.
        data[place] ^= 1
        copy.write_bytes(data)
        with pytest.raises(UserError, match=r"\.onnx is damaged: its SHA-256 differs"):
            OnnxNetwork(copy)
