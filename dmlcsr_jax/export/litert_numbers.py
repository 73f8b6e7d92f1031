"""Smaller numbers in a LiteRT file: convolutions in 8 bits, or their weights in 16."""

from collections.abc import Iterable

import numpy as np
from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer.algorithm_manager import AlgorithmName

_CONVOLUTION = qtyping.TFLOperationName.CONV_2D
_DEPTHWISE = qtyping.TFLOperationName.DEPTHWISE_CONV_2D
# Tensors are named after modules. As in `quantize`: all but the convolution that sees the
# photograph and the one that says the logits; depthwise ones are operations of another kind.
_INNER = r"^(?!.*(encoder/(stem_conv|conv1)/|parsing/logits/)).*$"
_HALF = qtyping.OpQuantizationConfig(
    weight_tensor_config=qtyping.TensorQuantizationConfig(
        num_bits=16, dtype=qtyping.TensorDataType.FLOAT
    ),
    compute_precision=qtyping.ComputePrecision.FLOAT,
    explicit_dequantize=True,
)


def quantize(data: bytes, signature: str, photographs: Iterable[np.ndarray]) -> bytes:
    """Returns the file with convolutions in 8 bits, their weights by channel.

    Args:
      data: of a float32 file.
      signature: name of its signature, which takes `images`.
      photographs: uint8 `[H, W, 3]`, of its size, from which the activations' ranges are taken.
    """
    maker = quantizer.Quantizer(bytearray(data))
    maker.add_static_config(_INNER, _CONVOLUTION, activation_num_bits=8, weight_num_bits=8)
    inputs = [{"images": image[None]} for image in photographs]
    return _result(maker, maker.calibrate({signature: inputs}))


def halve_weights(data: bytes) -> bytes:
    """Returns the file with the kernels of convolutions in float16; all computes in float32."""
    maker = quantizer.Quantizer(bytearray(data))
    for operation in (_CONVOLUTION, _DEPTHWISE):
        maker.update_quantization_recipe(".*", operation, _HALF, AlgorithmName.FLOAT_CASTING)
    return _result(maker)


def _result(maker: quantizer.Quantizer, calibration=None) -> bytes:
    made = maker.quantize(calibration, enable_progress_bar=False, enable_progress_report=False)
    return bytes(made.quantized_model)
