"""A trained network as a file that runs without this project: ONNX and StableHLO."""
