"""Prediction on Ray of this machine beside the plain command, as ratios in one run.

    python -m benchmarks.ray_data [--count=200] [--rounds=3] [--ray_actor=CPU=2]

Both label the same folders of astronauts, 512x512 pixels each, in turns: one of `--count` and one
of a quarter of it. What a further photograph takes is told from the difference of the two, and is
the figure for long lists; that of the list itself has the start of Ray's actors in it. A ratio is
Ray's photographs a second by the plain command's, the median of the rounds. Needs the extra `ray`.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import cv2
import numpy as np
import tabulate

from benchmarks.astronauts import photographs
from dmlcsr_jax.errors import UserError, exit_on_user_error

_LABELLED = re.compile(r"(\d+) labelled in ([\d.]+) s")


def make_folder(folder: pathlib.Path, count: int) -> pathlib.Path:
    """Writes photographs, no two alike, and returns their folder."""
    folder.mkdir()
    image = photographs()["astronaut 512x512"][..., ::-1]
    for number in range(count):
        brighter = cv2.add(image, np.full_like(image, number % 16))
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), np.roll(brighter, number // 16, axis=1))
    return folder


def seconds(folder: pathlib.Path, *options: str) -> float:
    """Returns what the labelling of a folder took, as the command says it.

    Raises:
      UserError: where the command fails.
    """
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "dmlcsr_jax.predict", str(folder), f"--out={out}"]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
    found = _LABELLED.search(done.stdout)
    if done.returncode or int(found[1]) != len(list(folder.iterdir())):
        raise UserError(f"the command has failed: {done.stderr.strip().splitlines()[-1]}")
    return float(found[2])


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="photographs of the longer list")
    parser.add_argument("--rounds", type=int, default=3, help="turns that are measured")
    parser.add_argument("--ray_actor", help="what an actor takes (default: all cores)")
    arguments = parser.parse_args(argv)
    if arguments.count < 8:
        raise UserError(f"--count is {arguments.count}; it must be 8 or more.")
    ray = [f"--ray_actor={arguments.ray_actor}"] if arguments.ray_actor else []
    ways = {"plain": [], "ray": [*ray, "--ray"]}
    counts = (arguments.count // 4, arguments.count)
    load, times = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as root:
        folders = [make_folder(pathlib.Path(root) / str(count), count) for count in counts]
        for _ in range(arguments.rounds):
            times.append([[seconds(folder, *way) for way in ways.values()] for folder in folders])
    times = np.array(times)  # [rounds, lists, ways]
    further = np.diff(times, axis=1)[:, 0] / (counts[1] - counts[0])
    rows = []
    for name, each in (
        (f"list of {counts[0]}", times[:, 0] / counts[0]),
        (f"list of {counts[1]}", times[:, 1] / counts[1]),
        ("each further one", further),
    ):
        rows.append([name, *(1 / np.median(each, axis=0)), np.median(each[:, 0] / each[:, 1])])
    headers = ["photographs a second", "plain command", "--ray", "ratio"]
    print(tabulate.tabulate(rows, headers, floatfmt=("", ".2f", ".2f", ".2f")))
    print(f"{len(os.sched_getaffinity(0))} cores; load average before {load:.1f}")


if __name__ == "__main__":
    main()
