"""Time from a photograph to its label map by every way that there is, beside PyTorch.

    python -m benchmarks.export [--calibrate=FOLDER]

PyTorch's network has the layers of the small network and is given its input ready made, eager, in
both memory formats; the other rows have all that lies between a photograph's bytes and its labels.
All take turns in one process. Wall time depends on who else uses the cores; the seconds of
computing time, summed over the cores, hardly do. With `FOLDER`, of photographs to calibrate by,
networks in 8 bits take part. Needs the extras `export`, `openvino` and `torch`.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np
import tabulate
import torch

from benchmarks.small_step import WIDTHS, TorchNetwork
from dmlcsr_jax.data import synthetic
from dmlcsr_jax.export import __main__ as export
from dmlcsr_jax.predict.face_parser import FaceParser
from dmlcsr_jax.predict.onnx_network import OnnxNetwork
from dmlcsr_jax.predict.onnx_runtimes import BACKENDS

# Seconds before each run: the threads of the one before wait for more work for a while.
_REST = 0.2


def torch_network(size, memory_format):
    """Returns the small network in PyTorch on an input of `size`, up to its own logits."""
    network = TorchNetwork(*WIDTHS).to(memory_format=memory_format).eval()
    x = torch.rand(1, 3, size, size).contiguous(memory_format=memory_format)

    def run():
        with torch.inference_mode():
            network.parse(x)

    return run


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="default")
    parser.add_argument("--side", type=int, default=512, help="of the photograph")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calibrate", help="folder of photographs, for 8 bits")
    flags = parser.parse_args()
    ours = FaceParser(flags.checkpoint, faces="whole", backend="jax")
    size = ours.metadata.image_size
    options = {"float32": []}
    if flags.calibrate:
        options["8 bits"] = ["--quantize=int8", f"--calibrate={flags.calibrate}"]
    exported = {}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        for numbers, option in options.items():
            export.main([f"--checkpoint={flags.checkpoint}", f"--out={path}", *option])
            for backend in BACKENDS:
                exported[f"{backend}, {numbers}"] = OnnxNetwork(path, backend=backend)
    image, _ = synthetic.draw_face(0, flags.side)
    runs = {
        f"PyTorch at {size}, contiguous": torch_network(size, torch.contiguous_format),
        f"PyTorch at {size}, channels last": torch_network(size, torch.channels_last),
        "FaceParser (XLA)": lambda: ours(image),
        **{f"exported, {name}": lambda p=p: p.labels(image) for name, p in exported.items()},
    }
    times = {name: [] for name in runs}
    for number in range(flags.rounds + 2):
        for name, run in runs.items():
            time.sleep(_REST)
            wall, cores = time.perf_counter(), time.process_time()
            run()
            if number > 1:  # The first compile and choose their kernels.
                times[name].append((time.perf_counter() - wall, time.process_time() - cores))
    rows = [
        (name, *1e3 * np.median(values, 0), *1e3 * np.min(values, 0))
        for name, values in times.items()
    ]
    headers = ["", "median, ms", "core-ms", "fastest, ms", "core-ms"]
    print(tabulate.tabulate(rows, headers, floatfmt=".1f"))


if __name__ == "__main__":
    main()
