"""The complete program as an ONNX model: the network by jax2onnx, the rest from `onnx_text`."""

import logging
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from jax2onnx import to_onnx
from onnx import compose, helper, numpy_helper, parser

from dmlcsr_jax.data.unwarp import interpolation_matrix
from dmlcsr_jax.export import onnx_text
from dmlcsr_jax.export.half_weights import halve_weights
from dmlcsr_jax.export.quantize import quantize
from dmlcsr_jax.export.shared_weights import share_weights
from dmlcsr_jax.models.properties import to_properties
from dmlcsr_jax.predict.onnx_file import seal

OPSET = 17
PRODUCER = "dmlcsr_jax"


def make_onnx(
    core: Callable[[Any], Any],
    size: int,
    description: Mapping[str, Any],
    *,
    scores: bool = False,
    hw: tuple[int, int] | None = None,
    calibration: Iterable[np.ndarray] | None = None,
    half_weights: bool = False,
    shared: pathlib.Path | None = None,
) -> bytes:
    """Returns an ONNX model of opset 17 that has been checked.

    It maps `images` uint8 `[B, H, W, 3]` RGB to `labels` uint8 `[B, H, W]`, or to `scores` float32
    `[B, H, W, C]`, and always gives `logits` float32 `[B, h, h, C]`, the network's own.

    Args:
      core: as `program.make_core` returns it, of a plain network.
      size: side of the network's input.
      description: as `models.properties.describe` returns it, kept in `metadata_props`.
      scores: whether `scores` take the place of `labels`.
      hw: height and width of the photographs; None: any.
      calibration: inputs of the network, float32 `[1, size, size, 3]`, by which its convolutions
        are turned into 8 bits; None: all stays float32.
      half_weights: whether weights are stored in float16; all is computed in float32.
      shared: the `.safetensors` file of the network, from which the kernels are read; the ONNX file
        must lie beside it. None: they are in the ONNX file.
    """
    network = _network(core, size)
    if calibration is not None:
        network = quantize(_folded(network), calibration)
    side, num_classes = (
        d.dim_value for d in network.graph.output[0].type.tensor_type.shape.dim[2:]
    )
    before = parser.parse_model(onnx_text.before(size, OPSET))
    behind = parser.parse_model(onnx_text.behind(size, side, num_classes, OPSET, scores=scores))
    counts = ["row_count", "column_count"]
    joined = compose.merge_models(
        before,
        compose.add_prefix(network, "network/"),
        io_map=[("fitted", f"network/{network.graph.input[0].name}")],
        outputs=[*counts, f"network/{network.graph.output[0].name}"],
    )
    # The names of both texts are in one graph from here on.
    behind = compose.add_prefix(behind, "behind/")
    joined = compose.merge_models(
        joined,
        behind,
        io_map=[
            *((name, f"behind/{name}") for name in counts),
            (f"network/{network.graph.output[0].name}", "behind/logits"),
        ],
        outputs=[behind.graph.output[0].name],
    )
    _finish_graph(joined.graph, network, size, side, "scores" if scores else "labels")
    if hw:
        dims = joined.graph.input[0].type.tensor_type.shape.dim[1:3]
        for dim, length in zip(dims, hw, strict=True):
            dim.dim_value = length
    model = _folded(joined, keeps_kernels=shared is not None)
    declare_batch(model.graph)
    if half_weights:
        halve_weights(model)
    model.producer_name = PRODUCER
    helper.set_model_props(model, to_properties(description))
    onnx.checker.check_model(model, full_check=True)
    if shared:
        share_weights(model, shared)
    return seal(model)


def _network(core, size: int) -> onnx.ModelProto:
    """Returns the network alone, of float32 `[B, size, size, 3]`."""
    # It warns of shapes that it leaves out, which the checker infers.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    network = to_onnx(core, [("B", size, size, 3)], opset=OPSET)
    network.ir_version = 8
    _clip(network.graph)
    return network


def _clip(graph: onnx.GraphProto) -> None:
    """Makes one Clip, which runtimes join to a convolution, of each relu6's Max and Min."""
    makers = {name: node for node in graph.node for name in node.output}
    scalars = {tensor.name for tensor in graph.initializer if not tensor.dims}
    pairs = [(makers.get(node.input[0]), node) for node in graph.node if node.op_type == "Min"]
    for lower, upper in pairs:
        if lower and lower.op_type == "Max" and {lower.input[1], upper.input[1]} <= scalars:
            upper.op_type = "Clip"
            upper.input[:] = [*lower.input, upper.input[1]]
            graph.node.remove(lower)


def _finish_graph(
    graph: onnx.GraphProto, network: onnx.ModelProto, size: int, side: int, result: str
) -> None:
    """Gives the joined graph its constant, its second output, and the names of both."""
    resize = interpolation_matrix(size, side).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(resize, "behind/resize"))
    graph.input.remove(next(i for i in graph.input if i.name == "behind/resize"))
    graph.output.append(network.graph.output[0])
    graph.output[1].name = f"network/{graph.output[1].name}"
    renamed = {f"behind/{result}": result, graph.output[1].name: "logits"}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for output in graph.output:
        output.name = renamed[output.name]
    graph.name = PRODUCER


def declare_batch(graph: onnx.GraphProto) -> None:
    """Lets the logits be of any number of photographs; the converter's Einsums tell of one."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Einsum" or not (matrix := constants.get(node.input[0])):
            continue
        # It gives a matrix that all photographs share a batch of one.
        equation = node.attribute[0].s.decode()
        if equation.startswith("..."):
            node.attribute[0].s = equation[3:].replace("...", "b").encode()
            if len(matrix.dims) == 3:
                del matrix.dims[0]
    del graph.value_info[:]
    graph.output[1].type.tensor_type.shape.dim[0].dim_param = "B"


def _folded(model: onnx.ModelProto, *, keeps_kernels: bool = False) -> onnx.ModelProto:
    """Returns the model with constants folded, in standard operations alone.

    Batch norm is folded into the kernels too, unless these are to stay as they are.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["ConvMulFusion", "ConvAddFusion"] if keeps_kernels else None,
        )
        folded = onnx.load(path)
    # ONNX Runtime lists its own domains too, which no node is of.
    del folded.opset_import[:]
    folded.opset_import.append(helper.make_opsetid("", OPSET))
    return folded
