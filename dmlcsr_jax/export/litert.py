"""The complete program as one LiteRT (TensorFlow Lite) file, for photographs of one size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from jax import export
from litert_converter import converter_api_ext
from litert_converter.mlir import ir, passmanager

from dmlcsr_jax.models.properties import to_properties

SIGNATURE = "serving_default"
_IDENTIFIER = b"TFL3"


def make_litert(
    program: Callable[[Any], jax.Array],
    hw: tuple[int, int],
    output: str,
    description: dict[str, Any],
    *,
    change: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """Returns the file's bytes: one photograph, uint8 `[1, H, W, 3]` RGB, to the program's result.

    Its signature `SIGNATURE` takes `images` and gives `output`. The converter is an interface of
    litert-converter that may change with its version.

    Args:
      program: from a photograph to labels or scores, see `program`; without a loop.
      hw: height and width of the photographs.
      output: name of the result.
      description: what the file says of itself, see `properties.describe`.
      change: makes another file of this one, with the same description.
    """
    images = jax.ShapeDtypeStruct((1, *hw, 3), jnp.uint8)
    exported = export.export(jax.jit(program), platforms=["cpu"])(images)
    with ir.Context() as context:
        converter_api_ext.prepare_mlir_context(context)
        module = ir.Module.parse(exported.mlir_module(), context)
        converter_api_ext.run_convert_to_tfl_passes(
            module, passmanager.PassManager(), converter_api_ext.ConvertToTFLConfig()
        )
        converter_api_ext.set_signature(module.operation, SIGNATURE, ["images"], [output])
        data = converter_api_ext.export_flatbuffer_to_bytes(module.operation)
    data = _describe(data, description)
    return change(data) if change else data


def _describe(data: bytes, description: dict[str, Any]) -> bytes:
    """Adds the description as the file's metadata, one entry a property."""
    model = schema.ModelT.InitFromPackedBuf(data)
    model.metadata = model.metadata or []
    for name, text in to_properties(description).items():
        buffer = schema.BufferT()
        buffer.data = list(text.encode())
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    builder = Builder(len(data) + 2**16)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())
