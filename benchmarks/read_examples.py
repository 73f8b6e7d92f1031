"""Training examples a second: the Grain pipeline from a prepared set beside a PyTorch loader.

    python -m benchmarks.read_examples --root=FOLDER --label_set=celebamask_hq

prepares `FOLDER`, which holds images, labels and `train_list.txt` (an image and its label a line),
in a temporary place, then reads augmented 473x473 examples from it with worker processes, and, for
comparison, from the folder's files with a `torch.utils.data` loader in one process that does the
same decoding, affine warp and normalisation. Both are timed in one run, in turns, on the same
cores. The pipeline hands over bytes, for normalisation is done on the
accelerator; the PyTorch loader normalises on the host, as is usual there.

Needs PyTorch (the extra `test`).
"""

import argparse
import contextlib
import importlib.metadata
import io
import math
import os
import pathlib
import platform
import tempfile
import time
from collections.abc import Sequence

import cv2
import numpy as np
import PIL.Image
import psutil
import tabulate
import torch

from dmlcsr_jax.data import label_sets, prepare
from dmlcsr_jax.data.augmentation import Augmentation
from dmlcsr_jax.data.batches import train_batches
from dmlcsr_jax.data.builders import Options
from dmlcsr_jax.data.prepared import PreparedSource
from dmlcsr_jax.errors import exit_on_user_error

# What one accelerator takes of the full network at 473x473, images a second.
ACCELERATOR_RATE = 260
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
MEMORY_SAMPLES = 8


class TorchFaces(torch.utils.data.Dataset):
    """The same examples as a PyTorch data set is usually written: files, OpenCV, float tensors."""

    def __init__(self, root, size, augmentation, label_set):
        lines = (root / "train_list.txt").read_text().split()
        self.pairs = [(root / lines[i], root / lines[i + 1]) for i in range(0, len(lines), 2)]
        self.size = size
        self.augmentation = augmentation
        self.mirror_table = label_set.mirror_table()
        self.ignore_label = label_set.ignore_label

        self.rng = np.random.default_rng(0)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        """Returns a random view of a pair: float32 `[3, S, S]` and int64 `[S, S]`."""
        image_file, label_file = self.pairs[index]
        image = cv2.cvtColor(cv2.imread(str(image_file)), cv2.COLOR_BGR2RGB)
        label = np.array(PIL.Image.open(label_file))
        a, size = self.augmentation, self.size
        scale = np.clip(self.rng.normal(1, a.scale_std), a.scale_min, a.scale_max)
        angle = 0.0
        if self.rng.random() < a.rotation_prob:
            angle = np.clip(self.rng.normal(0, a.rotation_std), -a.rotation_max, a.rotation_max)
        if self.rng.random() < a.mirror_prob:
            image, label = image[:, ::-1], self.mirror_table[label[:, ::-1]]
        height, width = label.shape
        matrix = cv2.getRotationMatrix2D(
            ((width - 1) / 2, (height - 1) / 2), angle, scale * size / max(height, width)
        )
        matrix[:, 2] += (size - 1) / 2 - np.array([width - 1, height - 1]) / 2
        image = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
        label = cv2.warpAffine(
            label,
            matrix,
            (size, size),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=self.ignore_label,
        )
        tensor = torch.from_numpy(image).permute(2, 0, 1).float().div_(255)
        tensor.sub_(torch.tensor(MEAN)[:, None, None]).div_(torch.tensor(STD)[:, None, None])
        return tensor, torch.from_numpy(label).long()


def time_torch(root, arguments, label_set):
    """Returns examples a second and CPU seconds an example of reading through PyTorch."""
    faces = TorchFaces(root, arguments.image_size, Augmentation(), label_set)
    loader = torch.utils.data.DataLoader(
        faces, batch_size=arguments.batch_size, shuffle=True, drop_last=True
    )
    batches = iter(loader)
    next(batches)
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    while count < arguments.num_examples:
        try:
            images, _ = next(batches)
        except StopIteration:
            batches = iter(loader)
            continue
        count += len(images)
    return count / (time.perf_counter() - wall), (time.process_time() - cpu) / count


def time_grain(source, arguments):
    """Returns examples a second, CPU seconds an example and memory in MB from time to time."""
    batches = train_batches(
        source,
        label_set=source.label_set,
        image_size=arguments.image_size,
        augmentation=Augmentation(),
        batch_size=arguments.batch_size,
        seed=0,
        num_workers=arguments.num_workers,
    )
    # Every worker has started and its buffers are full: nothing is timed that was made before.
    for _ in range(4 * max(1, arguments.num_workers)):
        next(batches)
    megabytes = [memory()]
    wall, cpu, count = time.perf_counter(), cpu_seconds(), 0
    while count < arguments.num_examples:
        count += len(next(batches)["image"])
        if count * MEMORY_SAMPLES >= len(megabytes) * arguments.num_examples:
            megabytes.append(memory())
    rate = count / (time.perf_counter() - wall)
    cpu = (cpu_seconds() - cpu) / count
    batches.close()
    return rate, cpu, megabytes


def cpu_seconds():
    """CPU time of this process and its living children."""
    times = [p.cpu_times() for p in (psutil.Process(), *psutil.Process().children(recursive=True))]
    return sum(t.user + t.system for t in times)


def memory():
    """Resident memory of this process and its children, MB, without what they share."""
    processes = (psutil.Process(), *psutil.Process().children(recursive=True))
    return sum(p.memory_info().rss - p.memory_info().shared for p in processes) / 1e6


def machine():
    """A line about the machine and one about the versions."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(": ")[1] for x in lines if x.startswith("model name")), model)
    packages = ("grain", "array_record", "tensorflow-datasets", "numpy", "torch")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} cores of {model}, load {load:.1f} at the start\n"
        f"Python {platform.python_version()}, OpenCV {cv2.__version__}, {', '.join(versions)}"
    )


def parse_arguments(argv):
    """Returns the command line's values."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add(
        "--root",
        "--source",
        type=pathlib.Path,
        required=True,
        help="folder of images/, labels/ and lists",
    )
    add("--label_set", help="a label set's name or file (FOLDER/label_names.txt unless given)")
    add("--num_workers", type=int, default=len(os.sched_getaffinity(0)), help="worker processes")
    add("--image_size", type=int, default=473, help="side of the input, pixels")
    add("--batch_size", type=int, default=28)
    add("--num_examples", type=int, default=1000, help="examples timed in each of the turns")
    add("--turns", type=int, default=3, help="how often each is timed; the best counts")
    return parser.parse_args(argv)


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    arguments = parse_arguments(argv)
    print(machine())
    with tempfile.TemporaryDirectory() as place:
        label_set = label_sets.get(arguments.label_set) if arguments.label_set else None
        options = Options(label_set=label_set)
        with contextlib.redirect_stdout(io.StringIO()):
            prepare.prepare("folder", arguments.root, place, options=options)
        source = PreparedSource(place, "train")
        grain_runs, torch_runs = [], []
        torch.set_num_threads(1)
        for _ in range(arguments.turns):
            grain_runs.append(time_grain(source, arguments))
            # One process means one core, as for each of the pipeline's workers.
            cv2.setNumThreads(0)
            torch_runs.append(time_torch(arguments.root, arguments, source.label_set))
    rate, cpu = max(run[0] for run in grain_runs), min(run[1] for run in grain_runs)
    torch_rate, torch_cpu = max(r[0] for r in torch_runs), min(r[1] for r in torch_runs)
    name = f"Grain, {arguments.num_workers} workers, prepared set"
    rows = [
        (name, rate, cpu * 1e3, math.ceil(ACCELERATOR_RATE * cpu)),
        ("PyTorch, one process, files", torch_rate, torch_cpu * 1e3, ""),
    ]
    headers = ("", "examples/s", "CPU ms/example", f"cores for {ACCELERATOR_RATE}/s")
    print(tabulate.tabulate(rows, headers, floatfmt=".2f"))
    print(f"Grain reads {rate / torch_rate:.2f} times as fast as PyTorch in one process.")
    print(
        f"An accelerator that takes {ACCELERATOR_RATE} images/s is fed by "
        f"{ACCELERATOR_RATE * cpu:.2f} cores."
    )
    _, _, megabytes = grain_runs[-1]
    print(
        f"Memory of all processes, MB, over the last turn of {arguments.num_examples} examples: "
        + " ".join(f"{value:.0f}" for value in megabytes)
    )


if __name__ == "__main__":
    main()
