"""Parses a photograph with JAX: python run_stablehlo.py model.stablehlo photo.jpg labels.png."""

import json
import pathlib
import sys

import jax.export
import numpy as np
from PIL import Image

model, photograph, target = sys.argv[1:]
program = jax.export.deserialize(bytearray(pathlib.Path(model).read_bytes()))
image = np.asarray(Image.open(photograph).convert("RGB"))
labels = np.asarray(program.call(image[None]))
Image.fromarray(labels[0]).save(target)
classes = json.loads(pathlib.Path(f"{model}.json").read_text())["classes"]
print(*(classes[index] for index in np.unique(labels)))
