"""Weights stored in float16: half the file, the same arithmetic in float32."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

# Smaller ones weigh nothing.
_LEAST_ELEMENTS = 256


def halve_weights(model: onnx.ModelProto) -> None:
    """Turns every large matrix or kernel into a float16 one and a Cast, which runtimes fold.

    Args:
      model: changed in place.
    """
    graph = model.graph
    large = [
        tensor
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) > 1
        and np.prod(tensor.dims) >= _LEAST_ELEMENTS
    ]
    casts = []
    for tensor in large:
        name = tensor.name
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}/float16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
