"""The runtimes that an ONNX model runs on; they are imported when one is opened."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from dmlcsr_jax.errors import UserError

if TYPE_CHECKING:
    from dmlcsr_jax.predict.onnx_file import OnnxFile

# In the order of preference: OpenVINO takes half the time on the CPUs where both were measured.
BACKENDS = ("openvino", "onnx")
_MODULES = {"openvino": "openvino", "onnx": "onnxruntime"}
# It reads the file, whatever runs it.
_READER = "onnx"


class OnnxRuntime:
    """A model on ONNX Runtime.

    Attributes:
      name: of the runtime.
    """

    name = "ONNX Runtime"

    def __init__(self, file: "OnnxFile", num_threads: int):
        """Loads a model for `num_threads` threads; 0: one a core."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        self._run_options.log_severity_level = 3
        self._file = file.name
        with _sentence_of_an_error(f"{file.name} is no complete ONNX model"):
            self._session = onnxruntime.InferenceSession(
                file.data, options, providers=["CPUExecutionProvider"]
            )

    def run(self, output: str, images: np.ndarray) -> np.ndarray:
        """Returns one of the outputs for uint8 `[B, H, W, 3]`.

        Raises:
          UserError: where the model does not run.
        """
        with _sentence_of_an_error(f"{self._file} does not run"):
            return self._session.run([output], {"images": images}, self._run_options)[0]


class OpenVino:
    """A model on OpenVINO; see `OnnxRuntime`."""

    name = "OpenVINO"

    def __init__(self, file: "OnnxFile", num_threads: int, dtype: str):
        """Loads a model for `num_threads` threads; 0: one a core."""
        # OpenVINO reports to its makers that it is imported, unless it lacks this.
        sys.modules.setdefault("openvino_telemetry", None)
        import openvino

        core = openvino.Core()
        self._file = file.name
        with _sentence_of_an_error(f"{file.name} is no complete ONNX model"):
            self._model = core.read_model(file.data)
        # Of itself it computes in bfloat16 where the processor can.
        precision = {"float32": "f32", "bfloat16": "bf16"}[dtype]
        options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if num_threads:
            options["INFERENCE_NUM_THREADS"] = num_threads
        self._compile = lambda model: core.compile_model(model, "CPU", options)
        self._compiled = {}

    def run(self, output: str, images: np.ndarray) -> np.ndarray:
        """As `OnnxRuntime.run`."""
        with _sentence_of_an_error(f"{self._file} does not run"):
            if output not in self._compiled:
                # Of a program with several outputs, all are computed at every call.
                model = self._model.clone()
                for result in model.get_results():
                    if output not in result.input_value(0).names:
                        model.remove_result(result)
                self._compiled[output] = self._compile(model)
            return self._compiled[output](images)[0].copy()


def choose(name: str, backend: str | None = None, dtype: str = "float32") -> str:
    """Returns which of `BACKENDS` runs a file.

    Args:
      name: of the file.
      backend: one of them; None: the first that is installed.
      dtype: of the computation, "float32" or, on OpenVINO alone, "bfloat16".

    Raises:
      UserError: where it is not installed, or does not compute so.
    """
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}.")
    wanted = BACKENDS if backend is None else (backend,)
    found = [each for each in installed() if each in wanted]
    if not found:
        extra = wanted[-1]
        raise UserError(f"{name} needs the extra {extra}: pip install 'dmlcsr_jax[{extra}]'.")
    if dtype != "float32" and found[0] != "openvino":
        raise UserError(f"ONNX Runtime computes in float32, not in {dtype}; OpenVINO does in both.")
    return found[0]


def open_model(
    file: "OnnxFile", backend: str, num_threads: int = 0, dtype: str = "float32"
) -> OnnxRuntime | OpenVino:
    """Loads an ONNX model.

    Args:
      file: the model.
      backend: as `choose` returned it.
      num_threads: that compute; 0: one a core.
      dtype: of the computation, "float32" or, on OpenVINO alone, "bfloat16".

    Raises:
      UserError: where the runtime does not take the model.
    """
    if backend == "openvino":
        return OpenVino(file, num_threads, dtype)
    return OnnxRuntime(file, num_threads)


def installed() -> list[str]:
    """Returns those of `BACKENDS` that are installed, in the same order."""
    if not _is_installed(_READER):
        return []
    return [backend for backend in BACKENDS if _is_installed(_MODULES[backend])]


@contextlib.contextmanager
def _sentence_of_an_error(what: str) -> Iterator[None]:
    try:
        yield
    # The errors of either runtime have no base of their own.
    except Exception as error:
        reason = " ".join(str(error).split())[-200:].rstrip(".")
        raise UserError(f"{what} ({reason}); export it again.") from error


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # It has been made unimportable.
        return False
