"""The usual open recipe of face parsing, as something to be faster than.

libfacedetection on the photograph reduced to 640 pixels, a square crop about each face, a BiSeNet
with a ResNet-18 context path (Yu et al. 2018, arXiv 1808.00897, sections 3 and 4.1) at 512x512 on
ONNX Runtime, the best class of each pixel, resized back to the crop and pasted. The weights are
random: the labels mean nothing, the time is that of trained ones. Needs the extras `export` and
`faces`.
"""

import os

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from dmlcsr_jax.predict import libfacedetection_private

NUM_CLASSES = 19
SIZE = 512
# Of the detector's picture's longer side, pixels.
_REDUCED_SIDE = 640
_LEAST_SCORE = 0.6
# Shown beyond a face's box on each side, as a share of its longer side; ours shows as much.
_MARGIN = 0.4
_MEAN = 255 * np.array([0.485, 0.456, 0.406], np.float32)
_STD = 255 * np.array([0.229, 0.224, 0.225], np.float32)


class Peer:
    """Parses photographs by the recipe."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        model = bisenet().SerializeToString()
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(model, options, providers=providers)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns a label map uint8 `[H, W]`; 0 beyond the faces' crops.

        Args:
          image: uint8 `[H, W, 3]` RGB.
        """
        height, width = image.shape[:2]
        scale = min(1.0, _REDUCED_SIDE / max(height, width))
        reduced = image if scale == 1 else cv2.resize(image, None, fx=scale, fy=scale)
        found = libfacedetection_private.detect(reduced)
        label = np.zeros((height, width), np.uint8)
        for box, score, *_ in found:
            if score < _LEAST_SCORE:
                continue
            edges = np.array(box) / scale
            half = (0.5 + _MARGIN) * (edges[2:] - edges[:2]).max()
            middle = (edges[:2] + edges[2:]) / 2
            x0, y0 = np.maximum(middle - half, 0).astype(int)
            x1, y1 = np.minimum(middle + half, (width, height)).astype(int)
            crop = self._parse(image[y0:y1, x0:x1])
            label[y0:y1, x0:x1] = cv2.resize(
                crop, (x1 - x0, y1 - y0), interpolation=cv2.INTER_NEAREST
            )
        return label

    def _parse(self, crop: np.ndarray) -> np.ndarray:
        x = (cv2.resize(crop, (SIZE, SIZE)).astype(np.float32) - _MEAN) / _STD
        (logits,) = self._session.run(None, {"image": x.transpose(2, 0, 1)[None]})
        return np.argmax(logits[0], axis=0).astype(np.uint8)


def bisenet(size: int = SIZE) -> onnx.ModelProto:
    """Returns the network: float32 `[1, 3, size, size]` to logits `[1, 19, size, size]`.

    As where it is deployed: without the losses' heads, and batch norms are in the convolutions.
    """
    graph = _Graph()
    spatial = "image"
    for features_in, features, side in ((3, 64, 7), (64, 64, 3), (64, 128, 3)):
        spatial = graph.convolve(spatial, features_in, features, side, stride=2)
    context = graph.join(_context_path(graph, "image"), spatial)
    x = graph.convolve(context, 256, 64, 3)
    x = graph.convolve(x, 64, NUM_CLASSES, 1, activation=None)
    graph.add("Identity", graph.resize(x, 8), to="logits")
    return graph.model(size)


def _context_path(graph: "_Graph", x: str) -> str:
    """ResNet-18, whose last two stages are refined by attention and added at 1/8 of the size."""
    x = graph.add("MaxPool", graph.convolve(x, 3, 64, 7, stride=2), **_window(3, 2))
    features_in, stages = 64, []
    for features in (64, 128, 256, 512):
        for stride in (1 if features == 64 else 2, 1):
            y = graph.convolve(x, features_in, features, 3, stride=stride)
            y = graph.convolve(y, features, features, 3, activation=None)
            if stride > 1:
                x = graph.convolve(x, features_in, features, 1, stride=stride, activation=None)
            x, features_in = graph.add("Relu", graph.add("Add", x, y)), features
        stages.append(x)
    tail = graph.convolve(graph.add("GlobalAveragePool", x), 512, 128, 1)
    for stage, features in ((stages[3], 512), (stages[2], 256)):
        refined = graph.convolve(stage, features, 128, 3)
        tail = graph.add("Add", graph.attend(refined, 128), tail)
        tail = graph.convolve(graph.resize(tail, 2), 128, 128, 3)
    return tail


class _Graph:
    """An ONNX graph of layers with random weights."""

    def __init__(self):
        self._rng = np.random.default_rng(0)
        self._nodes, self._weights = [], []

    def add(self, kind: str, *inputs: str, to: str | None = None, **attributes) -> str:
        """Adds a node and returns the name of what it gives."""
        to = to or f"x{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [to], **attributes))
        return to

    def convolve(
        self, x: str, features_in: int, features: int, side: int, stride=1, activation="Relu"
    ) -> str:
        shape = (features, features_in, side, side)
        kernel = self._rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        weights = self._weight(kernel), self._weight(np.zeros(features))
        x = self.add("Conv", x, *weights, **_window(side, stride))
        return self.add(activation, x) if activation else x

    def attend(self, x: str, features: int) -> str:
        """Multiplies with a gate a channel, of the channels' means."""
        means = self.add("GlobalAveragePool", x)
        gate = self.add("Sigmoid", self.convolve(means, features, features, 1, activation=None))
        return self.add("Mul", x, gate)

    def join(self, context: str, spatial: str) -> str:
        """Feature fusion: what the gate lets through is added."""
        x = self.convolve(self.add("Concat", context, spatial, axis=1), 256, 256, 1)
        gate = self.convolve(self.add("GlobalAveragePool", x), 256, 64, 1)
        gate = self.add("Sigmoid", self.convolve(gate, 64, 256, 1, activation=None))
        return self.add("Add", x, self.add("Mul", x, gate))

    def resize(self, x: str, factor: int) -> str:
        scales = self._weight(np.array([1, 1, factor, factor]))
        mode = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        return self.add("Resize", x, "", scales, **mode)

    def model(self, size: int) -> onnx.ModelProto:
        """Returns the model from "image" to "logits"."""
        given, made = (
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, size, size])
            for name, channels in (("image", 3), ("logits", NUM_CLASSES))
        )
        graph = helper.make_graph(self._nodes, "bisenet", [given], [made], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _weight(self, values: np.ndarray) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name


def _window(side: int, stride: int) -> dict:
    return {"kernel_shape": [side] * 2, "strides": [stride] * 2, "pads": [side // 2] * 4}
