"""An exported ONNX file: checked before a runtime sees it, as it may be anybody's."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from dmlcsr_jax.checkpoints import safetensors_file, weights_file
from dmlcsr_jax.checkpoints.fingerprint import fingerprint
from dmlcsr_jax.checkpoints.values import require_possible_values
from dmlcsr_jax.errors import UserError, first_line
from dmlcsr_jax.models.metadata import Metadata
from dmlcsr_jax.models.properties import from_properties

# The property that holds the SHA-256 of the file, in which it is zeros itself.
DIGEST = "sha256"
_ZEROS = "0" * 64
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
# Of 16 rows each: more than the rows of any photograph.
_MOST_STRIPS = 2**16


@dataclasses.dataclass(frozen=True)
class OnnxFile:
    """A model that `python -m dmlcsr_jax.export` wrote, or that is like one.

    Attributes:
      name: of the file.
      data: the model with all its weights, for a runtime.
      metadata: what it says of its network.
      is_quantized: whether it computes in 8 bits.
      fingerprint: SHA-256 of the file, which holds that of the weights beside it; hexadecimal.
      hw: height and width of its photographs; None: any.
      side: of the grid of its logits.
    """

    name: str
    data: bytes
    metadata: Metadata
    is_quantized: bool
    fingerprint: str
    hw: tuple[int, int] | None
    side: int


def seal(model: onnx.ModelProto) -> bytes:
    """Returns the file of a model, whose property `DIGEST` shows damage."""
    model.metadata_props.add(key=DIGEST, value=_ZEROS)
    data = model.SerializeToString()
    return data.replace(_ZEROS.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def read(path: str | os.PathLike) -> OnnxFile:
    """Reads a model, and its weights where they are in a `.safetensors` file beside it.

    Raises:
      UserError: where it is damaged, of another project or with other inputs and outputs,
        has values that are not finite, or control flow on the way to its logits.
    """
    name = os.fspath(path)
    content = pathlib.Path(name).read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise _incomplete(name, first_line(error)) from error
    if not model.graph.node:
        raise _incomplete(name, "it holds no graph")
    properties = {_text(entry.key): _text(entry.value) for entry in model.metadata_props}
    metadata = from_properties(properties, name)
    _require_undamaged(content, properties, name)
    graph = model.graph
    weights = _weights_beside(graph, pathlib.Path(name))
    if weights is not None:
        _embed(graph, weights, metadata, properties, name)
    hw, side = _shapes(graph, metadata, name)
    _bound(model, name)
    require_possible_values(dict(_floats(graph.initializer, name)), name)
    return OnnxFile(
        name=name,
        data=model.SerializeToString(),
        metadata=metadata,
        is_quantized=bool(properties.get("quantized")),
        fingerprint=hashlib.sha256(content).hexdigest(),
        hw=hw,
        side=side,
    )


def _incomplete(name: str, reason: str) -> UserError:
    return UserError(f"{name} is no complete ONNX model ({reason}); export it again.")


def _text(value: str | bytes) -> str:
    """Returns a text of a damaged file too, of which the parser gives bytes."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _require_undamaged(content: bytes, properties: Mapping[str, str], name: str) -> None:
    if (digest := properties.get(DIGEST)) is None:  # Older versions wrote none.
        return
    zeroed = content.replace(digest.encode(), _ZEROS.encode(), 1)
    if hashlib.sha256(zeroed).hexdigest() != digest:
        raise UserError(f"{name} is damaged: its SHA-256 differs; export it again.")


def _weights_beside(graph: onnx.GraphProto, path: pathlib.Path) -> pathlib.Path | None:
    """Returns the one file beside the model's that its tensors are in, None for none."""
    places = {
        _text(entry.value)
        for tensor in _external(graph)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if not places:
        return None
    place = min(places)
    is_beside = pathlib.PurePath(place).name == place and place.endswith(weights_file.SUFFIX)
    if len(places) > 1 or not is_beside:
        raise UserError(
            f"{path} takes tensors from {place!r}; it may from one {weights_file.SUFFIX} file "
            "beside it alone."
        )
    return path.with_name(place)


def _external(graph: onnx.GraphProto) -> list[TensorProto]:
    return [t for t in graph.initializer if t.data_location == TensorProto.EXTERNAL]


def _embed(
    graph: onnx.GraphProto,
    weights: pathlib.Path,
    metadata: Metadata,
    properties: Mapping[str, str],
    name: str,
) -> None:
    """Puts the tensors of the file beside the model's into it."""
    try:
        data, _ = weights_file.read_verified(weights)
    except UserError as error:
        raise UserError(f"{name} cannot take its tensors: {error}") from error
    tensors = safetensors_file.parse(data, os.fspath(weights))
    require_possible_values(tensors, os.fspath(weights))
    if not metadata.edge_feedback:  # As what is exported.
        tensors = {key: value for key, value in tensors.items() if key.split("/")[1:2] != ["edge"]}
    if properties.get("fingerprint") != fingerprint(tensors):
        raise UserError(f"{weights} is not what {name} was made of; export that again.")
    for tensor in _external(graph):
        where = {entry.key: entry.value for entry in tensor.external_data}
        try:
            offset, length = int(where.get("offset", 0)), int(where["length"])
        except (KeyError, ValueError) as error:
            raise _incomplete(name, f"its tensor {tensor.name} has no place") from error
        if offset < 0 or not 0 <= length <= len(data) - offset:
            raise _incomplete(name, f"its tensor {tensor.name} is beyond {weights.name}")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = data[offset : offset + length]


def _shapes(
    graph: onnx.GraphProto, metadata: Metadata, name: str
) -> tuple[tuple[int, int] | None, int]:
    """Returns height and width of the photographs, and the side of the logits."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {i.name: _type(i) for i in graph.input if i.name not in constants}
    outputs = dict(zip((o.name for o in graph.output), map(_type, graph.output), strict=True))
    if "scores" in outputs and "labels" not in outputs:
        raise UserError(f"{name} gives scores; export it without --scores for label maps.")
    match inputs:
        case {"images": (TensorProto.UINT8, [_, height, width, 3])} if len(inputs) == 1:
            pass
        case _:
            raise UserError(
                f"{name} must take `images`, uint8 [B, H, W, 3], alone; export it again."
            )
    num_classes = metadata.label_set.num_classes
    match outputs:
        case {
            "labels": (TensorProto.UINT8, [_, _, _]),
            "logits": (TensorProto.FLOAT, [_, int(side), int(width_of_logits), int(count)]),
        } if (side, count) == (width_of_logits, num_classes) and 0 < side <= metadata.image_size:
            pass
        case _:
            raise UserError(
                f"{name} must give `labels`, uint8 [B, H, W], and `logits`, float32 [B, h, h, C] "
                f"of its {num_classes} classes; export it again."
            )
    is_fixed = height is not None and width is not None
    return ((height, width) if is_fixed else None), side


def _type(value: onnx.ValueInfoProto) -> tuple[int, list[int | None]]:
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    return tensor.elem_type, dims


def _bound(model: onnx.ModelProto, name: str) -> None:
    """Refuses what may run without end; the one loop that makes label maps gets a last round."""
    graph = model.graph
    domains = {opset.domain for opset in model.opset_import}
    domains |= {node.domain for node in _all_nodes(graph.node)}
    if model.functions or not domains <= {"", "ai.onnx"}:
        raise UserError(f"{name} has operations that are not ONNX's own; export it again.")
    loops = [node for node in graph.node if node.op_type == "Loop"]
    found = [node for node in _all_nodes(graph.node) if node.op_type in _CONTROL_FLOW]
    makes = {output: node for node in graph.node for output in node.output}
    waiting, needed = ["logits"], set()
    while waiting:
        if (node := makes.pop(waiting.pop(), None)) is not None:
            needed.add(node.op_type)
            waiting += node.input
    if found != loops or len(loops) > 1 or needed & set(_CONTROL_FLOW):
        raise UserError(
            f"{name} has control flow, which may never end, beyond the one loop that makes its "
            "label maps; export it again."
        )
    for loop in loops:
        # A loop that gives no count goes on for as long as it says itself.
        trips = [trip for trip in loop.input[:1] if trip] + ["most_strips"]
        graph.initializer.append(numpy_helper.from_array(np.int64(_MOST_STRIPS), "most_strips"))
        bounded = helper.make_node("Min", trips, ["bounded_strips"])
        graph.node.insert(list(graph.node).index(loop), bounded)
        loop.input[0] = "bounded_strips"


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)


def _floats(tensors: Iterable[TensorProto], name: str) -> Iterator[tuple[str, np.ndarray]]:
    for tensor in tensors:
        # A scalar may be infinite, as where a maximum begins.
        if tensor.dims and tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16):
            try:
                yield _text(tensor.name), numpy_helper.to_array(tensor)
            except (ValueError, TypeError) as error:
                reason = f"its tensor {tensor.name} is not complete"
                raise _incomplete(name, reason) from error
