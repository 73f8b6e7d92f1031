"""Parses a photograph on LiteRT: python run_litert.py model.tflite photo.jpg labels.png.

The file takes photographs of one size; `--size=H,W` of the export is best the camera's.
"""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

model, photograph, target = sys.argv[1:]
runner = Interpreter(model_path=model).get_signature_runner("serving_default")
_, height, width, _ = runner.get_input_details()["images"]["shape"]
image = Image.open(photograph).convert("RGB").resize((int(width), int(height)))
labels = runner(images=np.asarray(image)[None])["labels"]
Image.fromarray(labels[0]).save(target)
