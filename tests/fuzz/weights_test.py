"""Files of weights, and what checkpoints say of themselves."""

import io
import json

import numpy as np
import pytest
import safetensors.numpy
import torch
from fuzz.mutation import SECONDS, holds
from hypothesis import given, settings
from hypothesis import strategies as st
from small_checkpoints import METADATA

from dmlcsr_jax.checkpoints import digests
from dmlcsr_jax.convert_torch import files
from dmlcsr_jax.data.json_object import parse_object
from dmlcsr_jax.errors import UserError
from dmlcsr_jax.models.metadata import Metadata

# Decoders warn of what they then refuse or accept.
pytestmark = pytest.mark.filterwarnings("ignore")
# As reproducible as the mutants, with as many examples as there is time.
EXAMPLES = settings(max_examples=int(50 * SECONDS), deadline=None, derandomize=True, database=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def check(tensors):
    assert all(isinstance(value, np.ndarray) for value in tensors.values())


def reader(path):
    def read(data):
        path.write_bytes(data)
        return files.read(path)

    return read


def test_safetensors(tmp_path):
    tensors = {"a.weight": np.ones((2, 3), np.float32), "b": np.zeros(4, np.int64)}
    seeds = [safetensors.numpy.save(tensors), safetensors.numpy.save({"h": np.ones(3, np.float16)})]
    holds(seeds, reader(tmp_path / "w.safetensors"), check, tmp_path=tmp_path)


@pytest.mark.parametrize("is_zip", [True, False])
def test_pickled_weights(tmp_path, is_zip):
    seeds = []
    for content in (
        {"a.weight": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.int64)},
        {"state_dict": {"module.a": torch.nn.Parameter(torch.ones(3))}, "epoch": 3},
    ):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=is_zip)
        seeds.append(file.getvalue())
    holds(seeds, reader(tmp_path / "w.pth"), check, tmp_path=tmp_path)


def test_metadata(tmp_path):
    def check(metadata):
        assert np.isfinite([*metadata.mean, *metadata.std, metadata.width]).all()
        assert Metadata.from_json(json.loads(json.dumps(metadata.to_json()))) == metadata

    seed = json.dumps(METADATA.to_json()).encode()
    holds(
        [seed],
        lambda data: Metadata.from_json(parse_object(data, "it")),
        check,
        tmp_path=tmp_path,
    )


def test_onnx_files(tmp_path):
    pytest.importorskip("onnx", reason="needs pip install 'dmlcsr_jax[onnx]'")
    from small_onnx import small_onnx

    from dmlcsr_jax.predict import onnx_file

    path = tmp_path / "made.onnx"

    def read(data):
        path.write_bytes(data)
        return onnx_file.read(path)

    seeds = [small_onnx().SerializeToString(), onnx_file.seal(small_onnx())]
    holds(seeds, read, tmp_path=tmp_path)


@EXAMPLES
@given(st.sampled_from(sorted(METADATA.to_json())), JSON)
def test_metadata_with_any_value(field, value):
    try:
        metadata = Metadata.from_json(METADATA.to_json() | {field: value})
    except UserError:
        return
    assert json.dumps(metadata.to_json(), allow_nan=False)


@EXAMPLES
@given(JSON)
def test_check_sums_of_anything(sums):
    with pytest.raises(ValueError):
        digests.require_same_digests({"a": np.zeros(3)}, sums)
