"""Draws the tables and plots of docs/evidence.md from the records of experiments.

    python -m docs.draw_evidence --records=DIR/records --out=DIR

from the repository's root, after `python -m dmlcsr_jax.experiments NAME --workdir=DIR ...`; the
page as it is in the repository is of `--records=docs/evidence --out=docs`. Between the lines
`<!-- NAME -->` and `<!-- end of NAME -->` of the page stands what the records say; the rest of it
is written by hand.
"""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
from dmlcsr_jax.configs.experiments import base
from matplotlib.figure import Figure
from tabulate import tabulate

from dmlcsr_jax.experiments.campaign import NAMES, open_experiment

FOLDER = pathlib.Path(__file__).parent
SCORES = {
    "mean_f1": "mean F1 %",
    "miou": "mIoU %",
    "boundary_mean_f1": "boundary F1 %",
    "worst_tenth_mean_f1": "worst tenth %",
}
# Scores whose differences from the baseline have a column of their own.
GAINS = {
    "mean_f1": "gain in mean F1",
    "boundary_mean_f1": "in boundary F1",
    "worst_tenth_mean_f1": "in the worst tenth",
}

# Name of a run to its scores by seed, per cent.
Figures = Mapping[str, Mapping[int, Mapping[str, float]]]


def read_figures(folder: pathlib.Path, experiment: ModuleType) -> dict:
    """Returns the `Figures` of the runs of which there are records, in the experiment's order."""
    figures = {}
    for run in experiment.RUNS:
        for seed in base.SEEDS:
            path = folder / f"{run}-{seed}.json"
            if path.is_file():
                record = json.loads(path.read_text())
                scores = {name: 100 * record[name] for name in SCORES}
                figures.setdefault(run, {})[seed] = scores
    return figures


def spread(values: Sequence[float]) -> str:
    """Returns `mean ± standard deviation`; without the latter where there is one value."""
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "-"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def gains(run: Mapping, baseline: Mapping, score: str) -> list[float]:
    """Returns the differences in a score between runs of the same seed, in points."""
    return [run[seed][score] - baseline[seed][score] for seed in run if seed in baseline]


def baseline_of(experiment: ModuleType, run: str) -> str:
    """Returns the run with which one is compared; its name may share their first or last word."""
    words = run.split("_")
    return experiment.BASELINE.format(group=words[0], last=words[-1])


def table(figures: Figures, experiment: ModuleType) -> str:
    """Returns the Markdown table of an experiment."""
    rows = []
    for run, by_seed in figures.items():
        scores = [spread([seed[name] for seed in by_seed.values()]) for name in SCORES]
        baseline = baseline_of(experiment, run)
        reference = figures.get(baseline, {}) if run != baseline else {}
        differences = [gains(by_seed, reference, score) for score in GAINS]
        columns = [spread(values) if values else "" for values in differences]
        rows.append([f"`{run}`", len(by_seed), *scores, *columns])
    headers = ["run", "seeds", *SCORES.values(), *GAINS.values()]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def plot(figures: Figures, experiment: ModuleType, path: pathlib.Path) -> None:
    """Draws each run's mean F1, one dot a seed and a bar at the mean."""
    figure = Figure(figsize=(8, 0.8 + 0.32 * len(figures)), layout="constrained")
    axes = figure.add_subplot()
    for row, by_seed in enumerate(figures.values()):
        values = [scores["mean_f1"] for scores in by_seed.values()]
        colours = [f"C{seed}" for seed in by_seed]
        axes.scatter(values, [row] * len(values), c=colours, s=22, zorder=3)
        axes.plot([np.mean(values)] * 2, [row - 0.3, row + 0.3], color="black", lw=1.5)
    axes.set_yticks(range(len(figures)), figures)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("mean F1, %: a dot a seed, a line at the mean")
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    """Writes the page with the tables of the records, and the plots."""
    arguments = argparse.ArgumentParser(prog="python -m docs.draw_evidence", description=__doc__)
    arguments.add_argument("--records", required=True, type=pathlib.Path, help="of the runs")
    arguments.add_argument("--out", required=True, type=pathlib.Path, help="folder of the page")
    given = arguments.parse_args()
    text = (FOLDER / "evidence.md").read_text()
    (given.out / "evidence").mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        experiment = open_experiment(name)
        figures = read_figures(given.records / name, experiment)
        if not figures:
            continue
        plot(figures, experiment, given.out / "evidence" / f"{name}.png")
        content = f"{table(figures, experiment)}\n\n![Mean F1 of each run](evidence/{name}.png)"
        first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(first)
        text = f"{before}{first}\n{content}\n{last}{rest.partition(last)[2]}"
    (given.out / "evidence.md").write_text(text)


if __name__ == "__main__":
    main()
