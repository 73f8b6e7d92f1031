"""Tensors of `.safetensors` files, which anybody may have written; JAX is not needed."""

import json

import ml_dtypes
import numpy as np
import safetensors

from dmlcsr_jax.errors import UserError

# safetensors.numpy knows no bfloat16.
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
_INTEGERS = {
    f"{kind}{bits}": np.dtype(f"{name}{bits}")
    for kind, name in (("I", "int"), ("U", "uint"))
    for bits in (8, 16, 32, 64)
} | {"BOOL": np.dtype(bool)}


def parse(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Returns the tensors of a file by name: floats as float32, others as they are.

    Args:
      data: the file's bytes.
      name: of the file, for messages.

    Raises:
      UserError: where it is no complete safetensors file, or a tensor is of numbers or of a shape
        that no network has.
    """
    try:
        entries = safetensors.deserialize(data)
    except Exception as error:
        detail = _first_cut_tensor(data) or str(error).rstrip(".")
        raise UserError(
            f"{name} is not a complete safetensors file ({detail}); get it again."
        ) from error
    tensors = {}
    for tensor, entry in entries:
        dtype = entry["dtype"]
        if dtype not in _FLOATS | _INTEGERS:
            raise UserError(f"{name}: the tensor {tensor} is of {dtype}; save it as float32.")
        value = np.frombuffer(entry["data"], (_FLOATS | _INTEGERS)[dtype])
        try:
            value = value.reshape(entry["shape"])
        except (ValueError, OverflowError) as error:
            raise UserError(
                f"{name}: the tensor {tensor} has a shape that no network has ({error}); get the "
                "file again."
            ) from error
        tensors[tensor] = value.astype(np.float32) if dtype in _FLOATS else value
    return tensors


def _first_cut_tensor(data: bytes) -> str | None:
    """Returns what a truncated safetensors file still tells about the first tensor it cuts."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        held = len(data) - 8 - length
        cut = {
            name: (entry["data_offsets"][0], entry["data_offsets"][1], tuple(entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__" and entry["data_offsets"][1] > held
        }
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return None
    if not cut:
        return None
    name = min(cut, key=cut.get)
    begin, end, shape = cut[name]
    return (
        f"it is truncated: of the tensor {name} of shape {shape} it holds "
        f"{max(0, held - begin)} of {end - begin} bytes"
    )
