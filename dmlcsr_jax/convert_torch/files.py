"""Reads and writes state_dict files: `.pth` and `.pt` with torch, `.safetensors` without it."""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from etils import epath

from dmlcsr_jax import atomic_file
from dmlcsr_jax.checkpoints import safetensors_file
from dmlcsr_jax.errors import UserError, first_line

PICKLED = (".pth", ".pt")
SAFETENSORS = ".safetensors"
SUFFIXES = (*PICKLED, SAFETENSORS)

# Under these names training scripts keep the network's state_dict beside their own things.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params")
_PARALLEL_PREFIX = "module."


def is_state_dict_file(path: epath.PathLike) -> bool:
    """Returns whether the name of `path` ends as a state_dict file's does."""
    return epath.Path(path).suffix.lower() in SUFFIXES


def read(path: epath.PathLike) -> dict[str, np.ndarray]:
    """Reads a state_dict, without ever executing code from it.

    A state_dict wrapped as `{"state_dict": ...}` or the like is unwrapped, and the prefix
    `module.` of data-parallel training is dropped.

    Args:
      path: a `.pth`, `.pt` (both need torch) or `.safetensors` file.

    Returns:
      Arrays by name: float tensors as float32, others as they are. float16 and bfloat16 become
      float32 without loss; float64 is rounded.

    Raises:
      UserError: where the file is missing, damaged, of another kind, or holds no tensors.
    """
    path = epath.Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file; name a .pth, .pt or .safetensors file.")
    suffix = path.suffix.lower()
    if suffix in PICKLED:
        tensors = _read_pickled(path)
    elif suffix == SAFETENSORS:
        tensors = safetensors_file.parse(path.read_bytes(), str(path))
    else:
        raise UserError(f"{path} is of an unknown kind; it must be {_any_of(SUFFIXES)}.")
    if not tensors:
        raise UserError(f"{path} holds no tensors; it must hold a network's state_dict.")
    if all(name.startswith(_PARALLEL_PREFIX) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL_PREFIX): t for name, t in tensors.items()}
    return tensors


def _any_of(suffixes) -> str:
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"


def _import_torch(path):
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} needs PyTorch: pip install 'dmlcsr_jax[torch]', or use a .safetensors file."
        ) from error
    return torch


def _read_pickled(path: epath.Path) -> dict[str, np.ndarray]:
    torch = _import_torch(path)
    try:
        with path.open("rb") as file:
            _refuse_inflated(path, file)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:
        # Many kinds: zip, pickle, end of file, a global that weights-only loading refuses.
        raise UserError(
            f"{path} cannot be read as a PyTorch state_dict of weights alone: it is truncated, or "
            f"of another kind, or holds more than tensors ({_reason(error)}); save the network's "
            "state_dict again."
        ) from error
    tensors = _state_dict(torch, content)
    for name, value in tensors.items():
        _require_plain(torch, path, name, value)
    _refuse_repeated(path, tensors.values())
    return {name: _as_float32(path, name, value) for name, value in tensors.items()}


def _refuse_repeated(path, tensors) -> None:
    """Refuses very many tensors of one memory, as each may become a copy."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    held = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    # Tied weights are there twice.
    if claimed > 2 * held:
        raise UserError(
            f"{path} holds {held:,} bytes but its {len(storages)} tensors claim {claimed:,}; save "
            "each by itself, by .clone()."
        )


def _refuse_inflated(path, file) -> None:
    """Refuses a zip file whose parts are larger together than it is: PyTorch compresses nothing."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as parts:
            total = sum(part.file_size for part in parts.infolist())
        if total > (size := file.seek(0, os.SEEK_END)):
            raise UserError(
                f"{path} is no file that PyTorch wrote: {size:,} bytes claim to hold {total:,}; "
                "save the network's state_dict again."
            )
    file.seek(0)


def _reason(error: Exception) -> str:
    """Returns what `torch.load` found, without its advice to load the file unsafely."""
    text = str(error).strip()
    if found := re.search(r"WeightsUnpickler error:\s*(.+?)(?: was not an allowed|\n|$)", text):
        return found[1].rstrip(".")
    is_pickle = isinstance(error, pickle.UnpicklingError)
    return type(error).__name__ if is_pickle else first_line(error)


def _state_dict(torch, content: Any) -> dict[str, Any]:
    """Returns the dict of tensors in what a `.pth` file held; empty where there is none."""
    # As deep as training scripts nest them; a file may hold itself.
    for _ in range(3):
        if not isinstance(content, Mapping):
            return {}
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            return {str(name): value for name, value in content.items()}
        inner = (content.get(name) for name in _WRAPPERS)
        content = next((value for value in inner if isinstance(value, Mapping)), None)
    return {}


def _require_plain(torch, path, name: str, tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise UserError(
            f"{path}: the tensor {name} is sparse, quantised or without values; save it as plain "
            "floats."
        )
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(
            f"{path}: the tensor {name} of shape {tuple(tensor.shape)} has more elements than the "
            "file holds; save it as plain floats, by .contiguous()."
        )


def _as_float32(path, name: str, tensor) -> np.ndarray:
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.is_floating_point():
        tensor = tensor.float()
    try:
        return tensor.contiguous().numpy()
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: the tensor {name} of shape {tuple(tensor.shape)} is of {tensor.dtype}; save "
            "it as plain floats."
        ) from error


def sidecar(path: epath.PathLike) -> epath.Path:
    """Returns the JSON file beside a state_dict file that keeps the checkpoint's metadata."""
    path = epath.Path(path)
    return path.with_name(path.name + ".json")


def write(path: epath.PathLike, tensors: dict[str, np.ndarray], description: str) -> None:
    """Writes a state_dict and its sidecar, both completely or neither.

    Args:
      path: a `.pth`, `.pt` or `.safetensors` file, which must not exist.
      tensors: contiguous arrays by name.
      description: content of the sidecar.

    Raises:
      UserError: where the file exists, is of another kind, or cannot be written.
    """
    path, beside = epath.Path(path), sidecar(path)
    for file in (path, beside):
        if file.exists():
            raise UserError(f"{file} exists already; name a new file or remove it.")
    if path.suffix.lower() in PICKLED:
        torch = _import_torch(path)
        buffer = io.BytesIO()
        torch.save({name: torch.tensor(value) for name, value in tensors.items()}, buffer)
        data = buffer.getvalue()
    else:
        data = safetensors.numpy.save(tensors)
    try:
        # The sidecar first: without it the file would be taken for one of the released weights.
        atomic_file.write_text(beside, description)
        try:
            atomic_file.write_bytes(path, data)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from error
