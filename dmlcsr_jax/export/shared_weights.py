"""Kernels that stay in a .safetensors file: an ONNX file of the graph alone, beside it."""

import json
import pathlib

import onnx
import safetensors.numpy
from onnx import helper, numpy_helper

_TO_ONNX = (3, 2, 0, 1)  # From Flax's kernels [H, W, I, O] to ONNX's [O, I, H, W].


def share_weights(model: onnx.ModelProto, weights: pathlib.Path) -> None:
    """Replaces every kernel by the tensor of the same values in `weights`, cast and transposed.

    Runtimes do both as they load, and fold batch norm into the kernels.

    Args:
      model: of that file's network, in float32, batch norm not folded; changed in place.
      weights: float16 tensors.
    """
    places = _places(weights)
    names = {
        array.transpose(_TO_ONNX).astype("float32").tobytes(): name
        for name, array in safetensors.numpy.load_file(weights).items()
        if array.ndim == 4 and array.dtype == "float16"
    }
    graph, nodes = model.graph, []
    for tensor in graph.initializer:
        is_kernel = tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 4
        stored = names.get(numpy_helper.to_array(tensor).tobytes()) if is_kernel else None
        if stored is None:
            continue
        name, (shape, start, end) = tensor.name, places[stored]
        tensor.Clear()
        tensor.name, tensor.data_type = f"{name}/stored", onnx.TensorProto.FLOAT16
        tensor.dims.extend(shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        where = {"location": weights.name, "offset": start, "length": end - start}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        nodes += [
            helper.make_node("Cast", [tensor.name], [f"{name}/cast"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Transpose", [f"{name}/cast"], [name], perm=_TO_ONNX),
        ]
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)


def _places(weights: pathlib.Path) -> dict[str, tuple[list[int], int, int]]:
    """Returns each tensor's shape and where in the file its bytes begin and end."""
    with weights.open("rb") as file:
        header_length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_length))
    begin = 8 + header_length
    return {
        name: (entry["shape"], *(begin + offset for offset in entry["data_offsets"]))
        for name, entry in header.items()
        if name != "__metadata__"
    }
