"""Which program runs the model in the box."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import types

import pytest
from small_checkpoints import METADATA, random_variables

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.distributed import accelerators
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict import jax_network, networks, onnx_runtimes


@pytest.fixture
def opened(monkeypatch):
    """Opens the model in the box without reading it: what runs it, and by what backend."""

    def opened(runtimes, has_accelerator, **options):
        monkeypatch.setattr(onnx_runtimes, "installed", lambda: list(runtimes))
        monkeypatch.setattr(networks, "may_have_accelerator", lambda: has_accelerator)
        monkeypatch.setattr(networks, "OnnxNetwork", lambda path, backend, **_: (path, backend))
        monkeypatch.setattr(jax_network, "JaxNetwork", lambda *_, **__: "JAX")
        return networks.open_network("default", **options)

    return opened


@pytest.mark.parametrize(
    ("runtimes", "has_accelerator", "options", "backend"),
    [
        (("onnx",), False, {}, None),
        (("openvino", "onnx"), False, {"flip": True}, None),
        (("onnx",), False, {"backend": "onnx"}, "onnx"),
        (("onnx",), True, {"backend": "openvino"}, "openvino"),
    ],
)
def test_an_onnx_runtime_runs_it_where_it_is_fastest(
    opened, runtimes, has_accelerator, options, backend
):
    expected = networks.EXPORTED_DEFAULT, backend
    assert opened(runtimes, has_accelerator, **options) == expected


@pytest.mark.parametrize(
    ("runtimes", "has_accelerator", "options"),
    [
        ((), False, {}),
        (("onnx",), True, {}),
        (("onnx",), False, {"backend": "jax"}),
        (("onnx",), False, {"dtype": "bfloat16"}),
        (("onnx",), False, {"scales": (0.5, 1.0)}),
    ],
)
def test_jax_runs_it_elsewhere(opened, runtimes, has_accelerator, options):
    assert opened(runtimes, has_accelerator, **options) == "JAX"


def test_a_missing_file_is_said_before_a_missing_runtime(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_runtimes, "installed", list)
    with pytest.raises(UserError, match=r"gone\.onnx is not a file"):
        networks.open_network(str(tmp_path / "gone.onnx"))
    (tmp_path / "there.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"there\.onnx needs the extra onnx"):
        networks.open_network(str(tmp_path / "there.onnx"))


def test_a_checkpoint_that_is_an_address_is_said():
    with pytest.raises(UserError, match=r"example\.org/model is an address; download"):
        networks.open_network("https://example.org/model", backend="jax")


def test_reading_a_checkpoint_leaves_hooks_and_logs_as_they_were(tmp_path):
    program = """
import logging, sys
def own(unraisable): pass
sys.unraisablehook = own
from dmlcsr_jax import FaceParser
FaceParser(sys.argv[1], faces="whole")
print(sys.unraisablehook is own, logging.getLogger().handlers)
"""
    variables = random_variables(METADATA)
    model.save_model(tmp_path / "m", METADATA, variables["params"], variables["batch_stats"])
    command = [sys.executable, "-c", program, str(tmp_path / "m")]
    result = subprocess.run(command, capture_output=True, check=True, text=True)
    assert result.stdout.strip() == "True []"


def test_other_checkpoints_run_on_jax(monkeypatch):
    monkeypatch.setattr(onnx_runtimes, "installed", lambda: ["onnx"])
    monkeypatch.setattr(networks, "may_have_accelerator", lambda: False)
    monkeypatch.setattr(jax_network, "JaxNetwork", lambda checkpoint, **_: checkpoint)
    assert networks.open_network("runs/helen") == "runs/helen"
    with pytest.raises(UserError, match=r"onnx runs no checkpoint; .*--checkpoint=runs/helen"):
        networks.open_network("runs/helen", backend="onnx")


@pytest.mark.parametrize(
    ("platforms", "modules", "entry_points", "expected"),
    [
        ("", {}, (), False),
        ("", {"libtpu": None}, (), True),
        ("", {}, ("cuda",), True),
        ("", {"jax_plugins": ["xla_cuda12"]}, (), True),
        ("", {"jax_plugins": []}, (), False),
        ("cpu", {"libtpu": None}, ("cuda",), False),
        ("cuda,cpu", {}, ("cuda",), True),
    ],
)
def test_an_accelerator_needs_a_plugin(
    monkeypatch, tmp_path, platforms, modules, entry_points, expected
):
    def find_spec(name):
        if name not in modules:
            return None
        for plugin in modules[name] or ():
            (tmp_path / plugin).mkdir()
            (tmp_path / plugin / "__init__.py").touch()
        return types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])

    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entry_points)
    assert accelerators.may_have_accelerator() == expected


def test_the_command_line_imports_no_jax_of_itself():
    program = (
        "import sys; from dmlcsr_jax.predict import __main__, run;"
        "print(sorted({'jax', 'flax', 'orbax', 'tensorflow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"
