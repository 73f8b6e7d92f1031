"""A small ONNX model with the inputs, outputs and properties of an exported one."""

import numpy as np
import onnx
from small_checkpoints import METADATA

from dmlcsr_jax.models.properties import describe, to_properties

CLASSES = METADATA.label_set.num_classes
# Gives label 0 everywhere, and logits that the photograph's mean moves.
LOGITS = f"float[B,4,4,{CLASSES}] logits"
LABELS = "uint8[B,H,W] labels"
MAKES_LABELS = "labels = Sub(most, most)"
MAKES_LOGITS = "logits = Add(mean, base)"


# By `grey_onnx` a photograph of one grey has the label whose grey is nearest.
GREYS = np.linspace(0, 240, CLASSES).round()


def grey_onnx():
    """Returns the model whose labels are a square photograph's mean."""
    base = f"base = {{{', '.join(['1.0'] * 16 * CLASSES)}}}"
    greys = f"base = {{{', '.join([str(grey) for grey in GREYS] * 16)}}}"
    distance = "off = Sub(mean, base)\n        far = Mul(off, off)\n        logits = Neg(far)"
    return small_onnx((base, greys), (MAKES_LOGITS, distance))


def small_onnx(*changes, opsets='"" : 17', properties=None):
    """Returns the model whose text has changes, `old, new` each."""
    text = f"""<ir_version: 8, opset_import: [{opsets}]>
        g (uint8[B,H,W,3] images) => ({LABELS}, {LOGITS})
        <float[1,4,4,{CLASSES}] base = {{{", ".join(["1.0"] * 16 * CLASSES)}}},
         int64[1] one = {{1}}, bool always = {{1}}, int64 huge = {{4611686018427387904}}>
        {{
        most = ReduceMax<axes = [3], keepdims = 0>(images)
        {MAKES_LABELS}
        numbers = Cast<to = 1>(images)
        mean = ReduceMean<axes = [1, 2, 3], keepdims = 1>(numbers)
        {MAKES_LOGITS}
        }}"""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    model = onnx.parser.parse_model(text)
    said = to_properties(describe(METADATA, "0" * 64))
    onnx.helper.set_model_props(model, said if properties is None else properties)
    return model
