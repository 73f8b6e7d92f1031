"""The page of evidence shows what the records say."""

import pathlib
import shutil

import numpy as np
import pytest
from dmlcsr_jax.configs.experiments import base

from dmlcsr_jax.experiments.campaign import NAMES, open_experiment
from dmlcsr_jax.experiments.record import read_record
from docs import draw_evidence

# That judge: FaceSynthetics' sample is small.
NUM_IMAGES = {"fine_tuning": 50}
DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", NAMES)
def test_every_record_is_of_a_run_whose_config_is_there(name):
    experiment = open_experiment(name)
    for path in (DOCS / "evidence" / name).glob("*.json"):
        record = read_record(path, experiment.get_config(path.stem))
        assert record["num_images"] == NUM_IMAGES.get(name, 400)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_drawn_from_the_records(name):
    experiment = open_experiment(name)
    figures = draw_evidence.read_figures(DOCS / "evidence" / name, experiment)
    page = (DOCS / "evidence.md").read_text()
    assert f"<!-- {name} -->\n" in page
    if figures:
        assert draw_evidence.table(figures, experiment) in page


def test_drawing_other_records_changes_no_file_of_the_repository(tmp_path, monkeypatch):
    shutil.copytree(DOCS / "evidence" / "decoupling", tmp_path / "records" / "decoupling")
    before = {path: path.stat().st_mtime_ns for path in DOCS.rglob("*.*")}
    monkeypatch.setattr(
        "sys.argv", ["draw", f"--records={tmp_path / 'records'}", f"--out={tmp_path / 'out'}"]
    )
    draw_evidence.main()
    assert {path: path.stat().st_mtime_ns for path in DOCS.rglob("*.*")} == before
    assert (tmp_path / "out" / "evidence.md").read_text() == (DOCS / "evidence.md").read_text()
    assert (tmp_path / "out" / "evidence" / "decoupling.png").exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_run_has_a_baseline_that_exists(name):
    experiment = open_experiment(name)
    for run in experiment.RUNS:
        assert draw_evidence.baseline_of(experiment, run) in experiment.RUNS


def test_gains_are_paired_by_seed():
    def scores(*values):
        # Each score another multiple, so that a column of another score shows.
        names = ("mean_f1", "miou", "boundary_mean_f1", "worst_tenth_mean_f1")
        return {
            seed: {name: factor * value for factor, name in enumerate(names, start=1)}
            for seed, value in values
        }

    # What the seeds bring, 1 to 30 points, is in both.
    figures = {
        "decoupled": scores((0, 51.0), (1, 60.0), (2, 80.0)),
        "fed_back": scores((0, 52.5), (2, 81.0)),
    }
    rows = draw_evidence.table(figures, open_experiment("decoupling")).splitlines()[2:]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert cells[0][:3] == ["`decoupled`", "3", "63.67 ± 14.84"]
    assert cells[0][-3:] == ["", "", ""]
    assert cells[1][:2] == ["`fed_back`", "2"]
    spread = np.std([1.5, 1.0], ddof=1)
    assert cells[1][-3:] == [f"{k * 1.25:.2f} ± {k * spread:.2f}" for k in (1, 3, 4)]
    assert len(base.SEEDS) == 3
