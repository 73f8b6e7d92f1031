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

from dmlcsr_jax.checkpoints.properties import to_properties

SIGNATURE = "serving_default"
_IDENTIFIER = b"TFL3"


def make_litert(
    score_program: Callable[[Any], jax.Array],
    hw: tuple[int, int],
    description: dict[str, Any],
    *,
    scores: bool = False,
    change: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """Returns the file's bytes: one photograph, uint8 `[1, H, W, 3]` RGB, to labels or scores.

    Its signature `SIGNATURE` takes `images` and gives `labels`, uint8 `[1, H, W]`, the lowest of
    equally good ones, or `scores`, float32 `[1, H, W, C]`. The converter is an interface of
    litert-converter that may change with its version.

    Args:
      score_program: as `program.make_program` returns it with `scores`.
      hw: height and width of the photographs.
      description: what the file says of itself, see `properties.describe`.
      scores: whether it gives scores.
      change: makes another file of this one, with the same description.
    """

    def program(images):
        logits = score_program(images)
        return logits if scores else jnp.argmax(logits, axis=-1).astype(jnp.uint8)

    images = jax.ShapeDtypeStruct((1, *hw, 3), jnp.uint8)
    exported = export.export(jax.jit(program), platforms=["cpu"])(images)
    with ir.Context() as context:
        converter_api_ext.prepare_mlir_context(context)
        module = ir.Module.parse(exported.mlir_module(), context)
        converter_api_ext.run_convert_to_tfl_passes(
            module, passmanager.PassManager(), converter_api_ext.ConvertToTFLConfig()
        )
        output = "scores" if scores else "labels"
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
