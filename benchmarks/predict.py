"""Photographs a second of prediction, and what its parts take.

    python -m benchmarks.predict --config=configs/celebamask_hq.py

labels a folder of drawn photographs, or of your own with `--source`, by `python -m
dmlcsr_jax.predict` with random weights, `--turns` times, and then times the parts of one photograph
on one core: decoding in this process and in a decoder process, finding faces where a detector is
installed, the network in its batch, the label map of the complete photograph, pasting one levelled
face instead, encoding of label map and overlay; each with its share of all but the decoding in this
process.

`--against=CHECKOUT` labels with another checkout of this repository too, in turns with this one.
"""

import argparse
import os
import pathlib
import platform
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import cv2
import jax
import numpy as np
import tabulate

from dmlcsr_jax.checkpoints import model
from dmlcsr_jax.checkpoints.metadata import Metadata
from dmlcsr_jax.data import warp
from dmlcsr_jax.data.decode import decode_image, read_bytes
from dmlcsr_jax.data.decoder_pool import DecoderPool
from dmlcsr_jax.data.limits import Limits
from dmlcsr_jax.data.synthetic import draw_face
from dmlcsr_jax.errors import UserError, exit_on_user_error
from dmlcsr_jax.evaluation.label_tiles import label_from_scores
from dmlcsr_jax.evaluation.scores import at_input_size, make_predict_fn
from dmlcsr_jax.models import build_model
from dmlcsr_jax.predict.composite import Composite
from dmlcsr_jax.predict.faces import default_detector, find
from dmlcsr_jax.predict.outputs import label_png, overlay_jpeg
from dmlcsr_jax.predict.photographs import PhotoFiles
from dmlcsr_jax.predict.reader import Reader

_RATE = re.compile(r"labelled in .*? s \(([\d.]+) images/s\)")


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--config", default="configs/celebamask_hq.py", help="file of a config")
    add("--image_size", type=int, help="side of the network's input (the config's)")
    add("--batch_size", type=int, default=8, help="photographs parsed together")
    add("--source", help="folder of photographs (drawn ones unless given)")
    add("--num_photographs", type=int, default=64, help="how many are drawn")
    add("--side", type=int, default=1024, help="of the drawn ones, pixels")
    add("--turns", type=int, default=3, help="how often the folder is labelled")
    add("--against", help="another checkout of this repository")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        config = runpy.run_path(args.config)["get_config"]()
        config.data.image_size = args.image_size or config.data.image_size
        metadata = Metadata.from_config(config)
        variables = _save_random(metadata, folder / "model")
        source = pathlib.Path(args.source or folder / "photographs")
        if not args.source:
            _draw(source, args.num_photographs, args.side)
        checkouts = {"this checkout": pathlib.Path(__file__).resolve().parents[1]}
        if args.against:
            checkouts[args.against] = pathlib.Path(args.against).resolve()
        rates = {name: [] for name in checkouts}
        for turn in range(args.turns):
            for name, checkout in checkouts.items():
                out = folder / f"out-{turn}-{len(rates[name])}-{checkout.name}-{name[:4]}"
                rates[name].append(_rate(checkout, source, folder / "model", out, args.batch_size))
        rows = [[name, max(values), np.median(values)] for name, values in rates.items()]
        headers = ["python -m dmlcsr_jax.predict", "most images/s", "median"]
        print(tabulate.tabulate(rows, headers=headers, floatfmt=".2f"))
        print()
        parts = _parts(metadata, variables, source, args.batch_size)
    total = sum(parts.values()) - parts["decode"]
    rows = [[name, value, 100 * value / total] for name, value in parts.items()]
    print(tabulate.tabulate(rows, headers=["part", "ms a photograph", "share %"], floatfmt=".2f"))
    size = metadata.image_size
    print(
        f"batch {args.batch_size}, network input {size}x{size}, {platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} cores, {jax.devices()[0].device_kind}"
    )


def _save_random(metadata: Metadata, path: pathlib.Path):
    """Saves a network of random weights and returns its variables."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        # Variances are positive.
        lambda leaf: np.abs(rng.standard_normal(leaf.shape)).astype(np.float32) / 10 + 0.01,
        model.abstract_variables(metadata),
    )
    model.save_model(path, metadata, variables["params"], variables["batch_stats"])
    return model.for_inference(metadata, variables)


def _draw(folder: pathlib.Path, count: int, side: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        image = cv2.resize(draw_face(index, 128)[0], (side, side), interpolation=cv2.INTER_CUBIC)
        # As a camera's, whose files are larger than those of flat colours.
        image = cv2.add(image, rng.integers(0, 12, image.shape, np.uint8))
        cv2.imwrite(str(folder / f"{index}.jpg"), image)


def _rate(checkout, source, checkpoint, out, batch_size: int) -> float:
    """Returns the images a second that prediction says it has made."""
    command = [sys.executable, "-m", "dmlcsr_jax.predict", str(source), f"--out={out}"]
    command += [f"--checkpoint={checkpoint}", f"--batch_size={batch_size}"]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if found := _RATE.search(done.stdout):
        return float(found[1])
    raise UserError(f"prediction in {checkout} failed: {(done.stdout + done.stderr)[-2000:]}")


def _parts(metadata: Metadata, variables, source: pathlib.Path, batch_size: int) -> dict:
    """Returns the name and milliseconds of each part, the least of some photographs' means."""
    cv2.setNumThreads(0)
    files = PhotoFiles([source])
    encoded = [files.encoded(picture) for picture in files][:8]
    images = [decode_image(read_bytes(item.source), item.title) for item in encoded]
    pool = DecoderPool(Limits())
    reader = Reader(pool, 2**31, len(images))
    size, label_set = metadata.image_size, metadata.label_set
    matrices = [warp.box_matrix(warp.photograph_box(i.shape[:2]), size, margin=0.0) for i in images]
    inputs = [warp.warp_image(*pair, size) for pair in zip(images, matrices, strict=True)]
    batch = np.resize(np.stack(inputs), (batch_size, size, size, 3))
    predict = make_predict_fn(build_model(metadata, "float32"), metadata)
    variables = jax.device_put(variables)
    scores = predict(variables, batch)[0]
    labels = [
        label_from_scores(scores, matrix, image.shape[:2], size)
        for image, matrix in zip(images, matrices, strict=True)
    ]

    crop = np.asarray(at_input_size(scores, size))

    def encode(image, label):
        overlay_jpeg(image, label, label_set, 0.5)
        label_png(label, label_set, "name")

    pairs = list(zip(images, matrices, labels, strict=True))
    parts = {
        "decode": lambda: [decode_image(read_bytes(e.source), e.title) for e in encoded],
        "decode in a process": lambda: [reader.photograph(e) for e in encoded],
        "network": lambda: predict(variables, batch).block_until_ready(),
        "label map": lambda: [label_from_scores(scores, m, i.shape[:2], size) for i, m, _ in pairs],
        "paste a face": lambda: [_paste(crop, i.shape[:2]) for i in images],
        "encode": lambda: [encode(i, label) for i, _, label in pairs],
    }
    if detector := default_detector():
        parts["find faces"] = lambda: [find(detector, image) for image in images]
    counts = {name: batch_size if name == "network" else len(images) for name in parts}
    times = {name: 1000 * _seconds(part) / counts[name] for name, part in parts.items()}
    pool.close()
    return times


def _paste(scores: np.ndarray, hw: tuple[int, int]) -> None:
    """Takes a crop of half the photograph's sides into its label map, as one of two."""
    edges = np.array([hw[1] / 4, hw[0] / 4, 3 * hw[1] / 4, 3 * hw[0] / 4]) - 0.5
    matrix = warp.box_matrix(edges, scores.shape[0], margin=0.0, angle=0.2)
    Composite(hw, 2, num_close=2).add(1, scores, matrix, are_logits=True)


def _seconds(function: Callable[[], object]) -> float:
    """Returns the least of three wall-clock times."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
