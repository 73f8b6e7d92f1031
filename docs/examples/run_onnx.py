"""Parses a photograph on ONNX Runtime: python run_onnx.py model.onnx photo.jpg labels.png."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, photograph, target = sys.argv[1:]
image = np.asarray(Image.open(photograph).convert("RGB"))
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
[labels] = session.run(["labels"], {"images": image[None]})
Image.fromarray(labels[0]).save(target)
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
print(*(classes[index] for index in np.unique(labels)))
