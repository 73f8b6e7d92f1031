"""Convolutions in 8 bits: weights by channel, activations in the ranges that photographs gave."""

import logging
import pathlib
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)


class _Inputs(CalibrationDataReader):
    def __init__(self, name: str, inputs: Iterable[np.ndarray]):
        self._name = name
        self._inputs: Iterator[np.ndarray] = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        images = next(self._inputs, None)
        return None if images is None else {self._name: images}


def quantize(network: onnx.ModelProto, inputs: Iterable[np.ndarray]) -> onnx.ModelProto:
    """Returns the network with pairs of QuantizeLinear and DequantizeLinear at its convolutions.

    The first and the last convolution, which see the photograph and say the logits, and depthwise
    ones, which have little to compute, stay in float32: see benchmarks/README.md.

    Args:
      network: with batch norm folded into its convolutions.
      inputs: arrays as the network's input takes them.
    """
    # The root logger would tell of a preparation that folding has already done.
    root, before = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "int8.onnx"
            quantize_static(
                network,
                path,
                _Inputs(network.graph.input[0].name, inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=sensitive_nodes(network.graph),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Ranges are means over the photographs: one alone widens none.
                extra_options={"CalibMovingAverage": True},
            )
            return onnx.load(path)
    finally:
        root.setLevel(before)


def sensitive_nodes(graph: onnx.GraphProto) -> list[str]:
    """Returns the names of the convolutions that stay as they are."""
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    grouped = [node.name for node in convolutions if _groups(node) > 1]
    return [convolutions[0].name, convolutions[-1].name, *grouped]


def _groups(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)
