"""launch/README.md."""

import re

import pytest
from launch_bench import LAUNCH, SUBCOMMANDS


class TestReadme:
    def test_the_table_follows_from_its_formula(self):
        text = (LAUNCH / "README.md").read_text()
        rows = re.findall(r"^\| (?:TPU v\w+|[AH]100) \|(.*)\|$", text, re.M)
        assert len(rows) == 6
        forward = 505.6e9
        for row in rows:
            peak, plain, taught, *hours = (float(cell) for cell in row.split("|"))
            used = 0.35 * peak * 1e12
            assert plain == pytest.approx(used / (3 * forward), abs=0.051)
            assert taught == pytest.approx(used / (4 * forward), abs=0.051)
            for images, cell in zip((24_183, 18_176, 2_000), hours, strict=True):
                flop = images * forward * (160 * 3 + 40 * 4 + 5)
                assert cell == pytest.approx(flop / used / 3600, abs=0.051)

    def test_it_names_only_subcommands_and_settings_that_exist(self):
        text = (LAUNCH / "README.md").read_text()
        for script, word in re.findall(
            r"launch/(\w+\.sh) --settings helen\.env (?:--dry_run )?([a-z]+)", text
        ):
            assert (script, word) in [*SUBCOMMANDS, ("gke.sh", "show")]
        known = re.search(r"setting_names=\(([^)]*)\)", (LAUNCH / "settings.sh").read_text())[1]
        named = set(re.findall(r"\b((?:GKE|SLURM|TPU)_[A-Z_]+[A-Z])\b", text))
        assert named <= set(known.split())
