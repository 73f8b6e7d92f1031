"""What a safetensors file may say of its tensors."""

import json

import ml_dtypes
import numpy as np
import pytest

from dmlcsr_jax.checkpoints import safetensors_file
from dmlcsr_jax.errors import UserError


def file_of(dtype, shape, data):
    tensor = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"a": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("F16", np.float16), ("BF16", ml_dtypes.bfloat16), ("F32", np.float32), ("F64", np.float64)],
)
def test_floats_become_float32(dtype, stored):
    values = np.array([[1.5, -2.0, 0.25]])
    found = safetensors_file.parse(file_of(dtype, [1, 3], values.astype(stored).tobytes()), "w")
    assert found["a"].dtype == np.float32
    np.testing.assert_array_equal(found["a"], values)


@pytest.mark.parametrize(
    ("dtype", "shape", "length"),
    [
        ("F8_E4M3", [4], 4),
        ("F8_E5M2", [4], 4),
        ("F4", [8], 4),
        ("C64", [1], 8),
        ("F32", [1] * 100, 4),
        ("F32", [0, 2**62], 0),
        ("F32", [2**62, 2**62], 0),
        ("F32", [0, 2**64], 0),
    ],
)
def test_numbers_and_shapes_that_no_network_has_are_refused(dtype, shape, length):
    with pytest.raises(UserError, match=r"^w(:| is not a complete safetensors file)"):
        safetensors_file.parse(file_of(dtype, shape, bytes(length)), "w")


@pytest.mark.parametrize("header", [b"[" * 100_000, b'{"a":' * 100_000, b"{", b"3"])
def test_headers_of_other_json_are_refused(header):
    with pytest.raises(UserError, match="is not a complete safetensors file"):
        safetensors_file.parse(len(header).to_bytes(8, "little") + header, "w")
