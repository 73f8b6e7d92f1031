"""The command: conversion both ways, wrong files, impossible commands."""

import dataclasses
import functools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from reference_torch import tiny_network

from dmlcsr_jax import models
from dmlcsr_jax.checkpoints.model import load_model, save_model
from dmlcsr_jax.convert_torch import __main__ as convert_torch
from dmlcsr_jax.convert_torch.network import infer_metadata
from dmlcsr_jax.data import label_sets
from dmlcsr_jax.errors import UserError


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture
def weights(network, tmp_path):
    """The network's `.pth` file."""
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


def _convert(*arguments):
    convert_torch.main([f"--{key}={value}" for key, value in arguments])


def _apply(metadata, variables, images, **options):
    model = models.DMLCSR(
        metadata.encoder,
        metadata.label_set.num_classes,
        stem=metadata.stem,
        width=metadata.width,
    )
    return jax.jit(functools.partial(model.apply, train=False, **options))(variables, images)


@pytest.mark.parametrize("edges", [True, False])
def test_a_converted_network_computes_the_same(tmp_path, capsys, edges):
    network = tiny_network(19, edges=edges)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    _convert(("from", tmp_path / "w.pth"), ("to", tmp_path / "checkpoint"))
    printed = capsys.readouterr().out
    assert "19 classes (celebamask_hq)" in printed
    assert f"{'with' if edges else 'without'} edge branch" in printed

    metadata, variables = load_model(tmp_path / "checkpoint")
    assert (metadata.encoder, metadata.stem, metadata.width) == ("tiny", "deep", 1.0)
    assert (metadata.channel_order, metadata.image_size) == ("bgr", 473)
    assert metadata.mean == (0.485, 0.456, 0.406)
    assert metadata.std == (0.229, 0.224, 0.225)
    assert metadata.edge_branch is edges
    assert metadata.label_set.left_is == "subject"

    images = np.random.default_rng(0).standard_normal((2, 65, 97, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(np.moveaxis(images, -1, 1).copy()))
    got = _apply(metadata, variables, images, edges=edges)
    assert set(got) == set(expected)
    for name, logits in expected.items():
        logits = np.moveaxis(logits.numpy(), 1, -1)
        np.testing.assert_allclose(got[name], logits, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_the_round_trip_is_bit_exact_and_loads_in_pytorch(network, weights, tmp_path, suffix):
    back = tmp_path / f"back{suffix}"
    _convert(
        ("from", weights), ("to", tmp_path / "a"), ("channel_order", "rgb"), ("image_size", 96)
    )
    _convert(("from", tmp_path / "a"), ("to", back))
    tensors = safetensors.numpy.load_file(back) if suffix == ".safetensors" else torch.load(back)
    expected = {
        name: value.numpy()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        assert np.asarray(tensors[name]).tobytes() == value.tobytes(), name
    state = {name: torch.as_tensor(np.asarray(value)) for name, value in tensors.items()}
    tiny_network(seed=1).load_state_dict(state, strict=True)

    _convert(("from", back), ("to", tmp_path / "b"))
    (metadata_a, a), (metadata_b, b) = (load_model(tmp_path / n) for n in "ab")
    assert metadata_a == metadata_b
    assert (metadata_b.channel_order, metadata_b.image_size) == ("rgb", 96)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_wide_and_conv7_networks_go_there_and_back(tmp_path):
    state = {name: value.numpy() for name, value in tiny_network().state_dict().items()}
    metadata = infer_metadata(state, "w.pth")
    metadata = dataclasses.replace(metadata, stem="conv7", width=0.5, image_size=64)
    model = models.DMLCSR("tiny", 19, width=0.5, stem="conv7")
    variables = models.initial_variables(model, 0, 64)
    save_model(tmp_path / "a", metadata, **variables)
    _convert(("from", tmp_path / "a"), ("to", tmp_path / "w.safetensors"))
    (tmp_path / "w.safetensors.json").unlink()
    _convert(("from", tmp_path / "w.safetensors"), ("to", tmp_path / "b"))
    metadata, restored = load_model(tmp_path / "b")
    assert (metadata.encoder, metadata.stem, metadata.width) == ("tiny", "conv7", 0.5)
    for x, y in zip(jax.tree.leaves(variables), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(x, y)


def test_safetensors_need_no_torch(network, tmp_path):
    safetensors.torch.save_file(network.state_dict(), tmp_path / "w.safetensors")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from dmlcsr_jax.convert_torch import __main__ as convert_torch\n"
        f"convert_torch.main(['--checkpoint={tmp_path}/w.safetensors', '--out={tmp_path}/a'])\n"
        f"convert_torch.main(['--checkpoint={tmp_path}/a', '--out={tmp_path}/b.safetensors'])\n"
        f"convert_torch.main(['--checkpoint={tmp_path}/a', '--out={tmp_path}/b.pth'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (tmp_path / "b.safetensors").exists(), done.stderr
    assert done.returncode == 1
    assert "pip install 'dmlcsr_jax[torch]'" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "b.pth").exists()
    assert not (tmp_path / "b.pth.json").exists()


def _edit(**changes):
    return lambda state: state.update(changes)


def _drop(name):
    return lambda state: state.pop(name)


def _rename_blocks(state):
    """Gives the encoder a second block in its first stage, as a deeper architecture has."""
    for name in [name for name in state if name.startswith("layer1.0.conv")]:
        state[name.replace("layer1.0", "layer1.1")] = torch.zeros(32, 32, 3, 3)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (_drop("layer3.0.conv2.weight"), (), ["layer3.0.conv2.weight", "(96, 96, 3, 3)", "none"]),
        (
            _edit(**{"context.extra.weight": torch.zeros(4, 2)}),
            (),
            ["context.extra.weight", "(4, 2)", "none"],
        ),
        (
            _edit(**{"context.convb.1.bias": torch.zeros(95)}),
            (),
            ["context.convb.1.bias", "(95,)", "(96,)"],
        ),
        (
            _edit(**{"edge_layer.conv5.weight": torch.zeros(11, 57, 1, 1)}),
            (),
            ["edge_layer.conv5.weight", "(11, 57, 1, 1)", "(19, 57, 1, 1)"],
        ),
        (
            _edit(**{"bn1.weight": torch.ones(16, dtype=torch.int64)}),
            (),
            ["bn1.weight", "int64"],
        ),
        (
            _edit(**{"layer6.conv4.weight": torch.zeros(19)}),
            (),
            ["layer6.conv4.weight", "(classes, 256, 1, 1)", "(19,)"],
        ),
        (_drop("layer6.conv4.weight"), (), ["layer6.conv4.weight", "(classes, 256, 1, 1)", "none"]),
        (_rename_blocks, (), ["conv1.weight", "(16, 3, 3, 3)", "(64, 3, 3, 3)"]),
        (
            lambda state: None,
            (("label_set", "helen"),),
            ["(19, 48, 1, 1)", "(11, 48, 1, 1)", "class count"],
        ),
    ],
    ids=[
        "missing",
        "extra",
        "shape",
        "edges",
        "integers",
        "odd head",
        "no head",
        "deeper",
        "classes",
    ],
)
def test_a_wrong_file_names_the_tensor_and_writes_nothing(
    network, tmp_path, capsys, change, options, words
):
    state = dict(network.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(SystemExit) as stopped:
        _convert(("from", tmp_path / "w.pth"), ("to", tmp_path / "a"), *options)
    assert stopped.value.code == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    for word in ["w.pth", *words]:
        assert word in line
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("kept", [0, 7, 1000, 0.5, 0.999])
def test_a_truncated_file_is_named(network, weights, tmp_path, kept):
    safetensors.torch.save_file(network.state_dict(), tmp_path / "w.safetensors")
    for path in (weights, tmp_path / "w.safetensors"):
        data = path.read_bytes()
        path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
        with pytest.raises(UserError) as error:
            convert_torch.import_weights(path, tmp_path / "a")
        assert str(path) in str(error.value)
        assert len(str(error.value).splitlines()) == 1
        if path.suffix == ".safetensors" and isinstance(kept, float):
            assert "truncated: of the tensor" in str(error.value)
    assert not (tmp_path / "a").exists()


def _one_error(capsys, *arguments):
    with pytest.raises(SystemExit):
        _convert(*arguments)
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_impossible_commands_end_with_one_sentence(weights, tmp_path, capsys):
    error = functools.partial(_one_error, capsys)
    assert "not a file" in error(("from", tmp_path / "absent.pth"), ("to", tmp_path / "a"))
    assert "checkpoint folder" in error(("from", weights), ("to", tmp_path / "b.pth"))
    assert "checkpoint folder" in error(("from", tmp_path), ("to", tmp_path / "b"))
    assert "image_size" in error(("from", weights), ("to", tmp_path / "a"), ("image_size", 8))
    (tmp_path / "a").mkdir()
    assert "exists already" in error(("from", weights), ("to", tmp_path / "a"))
    assert "knows its own" in error(
        ("from", tmp_path / "a"), ("to", tmp_path / "b.pth"), ("channel_order", "rgb")
    )
    (tmp_path / "weights.pth.json").write_text('{"encoder": "tiny"}')
    assert "weights.pth.json" in error(("from", weights), ("to", tmp_path / "c"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a",
        "weights.pth",
        "weights.pth.json",
    ]


def test_an_existing_file_is_not_replaced(weights, tmp_path, capsys):
    _convert(("from", weights), ("to", tmp_path / "a"))
    capsys.readouterr()
    before = weights.read_bytes()
    assert "exists already" in _one_error(capsys, ("from", tmp_path / "a"), ("to", weights))
    assert weights.read_bytes() == before
    assert not (tmp_path / "weights.pth.json").exists()


def test_the_sidecar_describes_the_network(weights, tmp_path):
    _convert(("from", weights), ("to", tmp_path / "a"))
    _convert(("from", tmp_path / "a"), ("to", tmp_path / "b.pth"))
    described = json.loads((tmp_path / "b.pth.json").read_text())
    assert described["channel_order"] == "bgr"
    assert described["label_set"]["classes"] == list(label_sets.CELEBAMASK_HQ.classes)


@pytest.mark.parametrize(
    ("tensor", "value", "message"),
    [
        ("layer6.conv4.weight", float("nan"), "not finite"),
        ("layer1.0.conv1.weight", float("inf"), "not finite"),
        ("layer1.0.bn1.running_var", -1e-3, "below 0"),
    ],
)
def test_impossible_values_are_refused_by_tensor(network, tmp_path, capsys, tensor, value, message):
    state = {name: kept.clone() for name, kept in network.state_dict().items()}
    state[tensor].view(-1)[0] = value
    torch.save(state, tmp_path / "w.pth")
    line = _one_error(capsys, ("from", tmp_path / "w.pth"), ("to", tmp_path / "a"))
    assert f"w.pth: the tensor {tensor} " in line
    assert message in line
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("option", "values"), [("mean", ("nan", "0", "0")), ("std", ("1", "inf", "1")), ("std", "010")]
)
def test_pixels_that_are_no_numbers_are_refused(weights, tmp_path, capsys, option, values):
    with pytest.raises(SystemExit) as stopped:
        convert_torch.main(
            [f"--checkpoint={weights}", f"--out={tmp_path / 'a'}", f"--{option}", *values]
        )
    assert stopped.value.code == 1
    assert f"the network's {option} is (" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_changed_file_beside_its_description_is_noticed(weights, tmp_path, capsys):
    _convert(("from", weights), ("to", tmp_path / "a"))
    _convert(("from", tmp_path / "a"), ("to", tmp_path / "b.safetensors"))
    path = tmp_path / "b.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    line = _one_error(capsys, ("from", path), ("to", tmp_path / "c"))
    assert "b.safetensors is not what was written with" in line
    beside = tmp_path / "b.safetensors.json"
    description = json.loads(beside.read_text())
    del description["sha256"]
    beside.write_text(json.dumps(description))
    capsys.readouterr()
    _convert(("from", path), ("to", tmp_path / "c"))
    assert "has no check sums" in capsys.readouterr().out
