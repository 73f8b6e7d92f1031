"""A folder of a static page that parses photographs inside the browser."""

import json
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from dmlcsr_jax import atomic_file
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.metadata import Metadata

_PAGE = pathlib.Path(__file__).parent / "web"
_RUNTIME = "onnxruntime-web@1.30.0"
_RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)


def write_web_folder(
    folder: str, model: bytes, metadata: Metadata, weights: pathlib.Path | None = None
) -> None:
    """Writes page, runtime and model; the page asks for nothing beyond them.

    Args:
      folder: is made; files of the same names are replaced.
      model: the ONNX file.
      metadata: of its network.
      weights: the file beside which the ONNX file lies, where that was made with `--shared`.

    Raises:
      UserError: where ONNX Runtime Web cannot be had, or a file cannot be written.
    """
    label_set = metadata.label_set
    description = {
        "classes": label_set.classes,
        "palette": label_set.palette,
        "convention": label_set.convention,
        "license": metadata.license,
        "weights": weights.name if weights else None,
    }
    files = {
        **_runtime(),
        **({weights.name: weights.read_bytes()} if weights else {}),
        "model.onnx": model,
        "model.json": json.dumps(description).encode(),
        **{path.name: path.read_bytes() for path in _PAGE.iterdir() if path.is_file()},
    }
    target = pathlib.Path(folder)
    for name in files:
        atomic_file.require_place(target / name)
    for name, data in files.items():
        atomic_file.write_bytes(target / name, data)


def _runtime() -> dict[str, bytes]:
    """Returns the files of ONNX Runtime Web, from its npm package."""
    if not (npm := shutil.which("npm")):
        raise UserError(
            "the page needs ONNX Runtime Web, which npm brings; install Node.js with npm."
        )
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [npm, "pack", _RUNTIME, "--silent"], cwd=folder, capture_output=True, text=True
        )
        if result.returncode:
            lines = result.stderr.strip().splitlines() or ["no reason given"]
            raise UserError(f"npm did not bring {_RUNTIME} ({lines[-1]}); try again when online.")
        package = next(pathlib.Path(folder).glob("*.tgz"))
        with tarfile.open(package) as archive:
            return {
                name: archive.extractfile(f"package/dist/{name}").read() for name in _RUNTIME_FILES
            }
