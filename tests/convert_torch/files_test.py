"""State_dict files as the world writes them."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from reference_torch import tiny_network

from dmlcsr_jax.convert_torch import files
from dmlcsr_jax.errors import UserError


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def _prefixed(state):
    return {f"module.{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        _prefixed,
        lambda state: {"state_dict": _prefixed(state), "epoch": 3, "best": 0.9},
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {name: value.double() for name, value in state.items()},
    ],
    ids=["data-parallel", "wrapped", "with an optimizer", "float64"],
)
def test_files_as_training_scripts_leave_them(network, tmp_path, wrap):
    state = network.state_dict()
    torch.save(wrap(state), tmp_path / "w.pth")
    read = files.read(tmp_path / "w.pth")
    assert set(read) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(read[name], value.numpy())


def test_half_precision_is_widened_exactly(network, tmp_path):
    for dtype in (torch.float16, torch.bfloat16):
        state = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in network.state_dict().items()
        }
        torch.save(state, tmp_path / "w.pth")
        safetensors.torch.save_file(state, tmp_path / "w.safetensors")
        for suffix in (".pth", ".safetensors"):
            read = files.read(tmp_path / f"w{suffix}")
            for name, value in state.items():
                if value.is_floating_point():
                    assert read[name].dtype == np.float32
                    np.testing.assert_array_equal(read[name], value.float().numpy())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_many_tensors_of_one_memory_are_refused(tmp_path, suffix):
    memory = torch.zeros(1000, dtype=torch.float16)
    if suffix == ".pth":
        torch.save({str(i): memory[i:] for i in range(300)}, tmp_path / "w.pth")
    else:
        header = {
            str(i): {"dtype": "F16", "shape": [1000], "data_offsets": [0, 2000]} for i in range(300)
        }
        text = json.dumps(header).encode()
        data = len(text).to_bytes(8, "little") + text + bytes(2000)
        (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=r"300 tensors claim|is not a complete safetensors file"):
        files.read(tmp_path / f"w{suffix}")


class _Trap:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_pickle_is_never_run(network, tmp_path):
    trap = tmp_path / "sprung"
    torch.save({"state_dict": network.state_dict(), "args": _Trap(trap)}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Trap(trap), protocol=2))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            files.read(tmp_path / name)
    assert not trap.exists()


def test_a_refused_pickle_names_what_it_holds_and_gives_no_unsafe_advice(network, tmp_path):
    trap = _Trap(tmp_path / "sprung")
    torch.save({"state_dict": network.state_dict(), "args": trap}, tmp_path / "code.pth")
    (tmp_path / "garbage.pth").write_bytes(b"garbage" * 100)
    for name, found in (("code.pth", "GLOBAL io.open"), ("garbage.pth", "Unsupported operand 103")):
        with pytest.raises(UserError, match=found) as refused:
            files.read(tmp_path / name)
        assert len(str(refused.value).splitlines()) == 1
        for advice in ("weights_only", "trust", "PyTorch 2.6", "add_safe_globals"):
            assert advice not in str(refused.value)


def test_parameters_are_tensors(tmp_path):
    value = torch.nn.Parameter(torch.arange(3.0))
    torch.save({"a": value}, tmp_path / "w.pth")
    np.testing.assert_array_equal(files.read(tmp_path / "w.pth")["a"], [0, 1, 2])


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.empty(3, device="meta"), "sparse, quantised or without values"),
        (torch.eye(3).to_sparse(), "sparse, quantised or without values"),
        (torch.eye(3).to_sparse_csr(), "sparse, quantised or without values"),
        (torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8), "quantised"),
        (torch.zeros(1).expand(10**5, 10**5), r"shape \(100000, 100000\) has more elements"),
        (torch.as_strided(torch.zeros(4), (1000,), (0,)), "has more elements"),
    ],
    ids=["meta", "sparse", "sparse rows", "quantised", "40 GB", "stride 0"],
)
def test_tensors_that_are_no_plain_floats_are_named(tmp_path, tensor, message):
    torch.save({"layer.weight": tensor}, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 10_000
    with pytest.raises(UserError, match=rf"w\.pth: the tensor layer\.weight .*{message}"):
        files.read(tmp_path / "w.pth")


def test_a_file_that_holds_itself_holds_no_tensors(tmp_path):
    content = {"epoch": 3}
    content["state_dict"] = content
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds no tensors"):
        files.read(tmp_path / "w.pth")


def test_a_zip_that_grows_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("w/data.pkl", bytes(10**7))
    with pytest.raises(UserError, match=r"w\.pth is no file that PyTorch wrote"):
        files.read(tmp_path / "w.pth")
