"""The runtimes that an ONNX model runs on; they are imported when one is opened."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping

import numpy as np

from dmlcsr_jax.errors import UserError

# In the order of preference: OpenVINO takes half the time on the CPUs where both were measured.
BACKENDS = ("openvino", "onnx")
_MODULES = {"openvino": "openvino", "onnx": "onnxruntime"}


class OnnxRuntime:
    """A model on ONNX Runtime.

    Attributes:
      properties: the model's `metadata_props`.
      hw: height and width of its photographs; None: any.
      outputs: their names.
      name: of the runtime.
    """

    name = "ONNX Runtime"

    def __init__(self, path: str, num_threads: int):
        """Loads the model at `path` for `num_threads` threads; 0: one a core."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        with _sentence_of_a_damaged_file(path):
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        self.properties: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        height, width = ([*self._session.get_inputs()[0].shape, None, None])[1:3]
        self.hw = (height, width) if isinstance(height, int) else None
        self.outputs = [output.name for output in self._session.get_outputs()]

    def run(self, output: str, images: np.ndarray) -> np.ndarray:
        """Returns one of the outputs for uint8 `[B, H, W, 3]`."""
        return self._session.run([output], {"images": images}, self._run_options)[0]


class OpenVino:
    """A model on OpenVINO; the attributes are those of `OnnxRuntime`."""

    name = "OpenVINO"

    def __init__(self, path: str, num_threads: int, dtype: str):
        """Loads the model at `path` for `num_threads` threads; 0: one a core."""
        # OpenVINO reports to its makers that it is imported, unless it lacks this.
        sys.modules.setdefault("openvino_telemetry", None)
        import openvino

        core = openvino.Core()
        with _sentence_of_a_damaged_file(path):
            model = core.read_model(path)
        # The values of this dictionary are wrapped texts.
        told = model.rt_info
        described = told["framework"] if "framework" in told else {}  # noqa: SIM401 (it has no get)
        self.properties: Mapping[str, str] = {name: described[name].value for name in described}
        shape = model.inputs[0].partial_shape if model.inputs else ()
        is_fixed = len(shape) == 4 and not (shape[1].is_dynamic or shape[2].is_dynamic)
        self.hw = (shape[1].get_length(), shape[2].get_length()) if is_fixed else None
        self.outputs = [name for output in model.outputs for name in output.names]
        # Of itself it computes in bfloat16 where the processor can.
        precision = {"float32": "f32", "bfloat16": "bf16"}[dtype]
        options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if num_threads:
            options["INFERENCE_NUM_THREADS"] = num_threads
        self._compile = lambda model: core.compile_model(model, "CPU", options)
        self._model = model
        self._compiled = {}

    def run(self, output: str, images: np.ndarray) -> np.ndarray:
        """Returns one of the outputs for uint8 `[B, H, W, 3]`."""
        if output not in self._compiled:
            # Of a program with several outputs, all are computed at every call.
            model = self._model.clone()
            for result in model.get_results():
                if output not in result.input_value(0).names:
                    model.remove_result(result)
            self._compiled[output] = self._compile(model)
        return self._compiled[output](images)[0].copy()


def open_model(
    path: str | os.PathLike,
    backend: str | None = None,
    num_threads: int = 0,
    dtype: str = "float32",
) -> OnnxRuntime | OpenVino:
    """Loads an ONNX model.

    Args:
      path: the file.
      backend: one of `BACKENDS`; None: the first that is installed.
      num_threads: that compute; 0: one a core.
      dtype: of the computation, "float32" or, on OpenVINO alone, "bfloat16".

    Raises:
      UserError: where the runtime or the file is missing, it is no complete ONNX model, or the
        runtime does not compute so.
    """
    name = os.fspath(path)
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}.")
    if not os.path.isfile(name):
        raise UserError(f"{name} is not a file; name one that `dmlcsr-export` wrote.")
    wanted = BACKENDS if backend is None else (backend,)
    found = [each for each in installed() if each in wanted]
    if not found:
        raise UserError(
            f"{name} needs {_MODULES[wanted[-1]]}: pip install 'dmlcsr_jax[{wanted[-1]}]'."
        )
    if found[0] == "openvino":
        return OpenVino(name, num_threads, dtype)
    if dtype != "float32":
        raise UserError(f"ONNX Runtime computes in float32, not in {dtype}; OpenVINO does in both.")
    return OnnxRuntime(name, num_threads)


def installed() -> list[str]:
    """Returns those of `BACKENDS` that are installed, in the same order."""
    return [backend for backend in BACKENDS if _is_installed(_MODULES[backend])]


@contextlib.contextmanager
def _sentence_of_a_damaged_file(path: str) -> Iterator[None]:
    try:
        yield
    # The errors of either runtime have no base of their own.
    except Exception as error:
        reason = " ".join(str(error).split())[-200:].rstrip(".")
        raise UserError(f"{path} is no complete ONNX model ({reason}); export it again.") from error


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # It has been made unimportable.
        return False
