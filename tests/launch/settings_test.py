"""The settings file."""

import re
import shlex
import shutil

import pytest
from launch_bench import FILLED, LAUNCH


class TestSettings:
    @pytest.mark.parametrize(
        ("script", "word", "names"),
        [
            ("tpu_vm.sh", "status", ["PROJECT", "ZONE", "TPU_NAME", "WORKDIR"]),
            ("gke.sh", "status", ["PROJECT", "GKE_CLUSTER", "IMAGE"]),
            ("slurm.sh", "status", ["CONFIG", "SLURM_PYTHON", "SLURM_LOGS"]),
            ("local.sh", "2", ["CONFIG", "WORKDIR"]),
        ],
    )
    def test_missing_ones_are_named(self, bench, script, word, names):
        bench.settings(**dict.fromkeys(names, ""))
        result = bench.run(script, word, check=False)
        assert result.returncode == 1
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
        assert set(names) <= set(re.findall(r"\w+", result.stderr))
        assert bench.calls() == []

    @pytest.mark.parametrize(
        ("changes", "lines", "words"),
        [
            ({"PROVISIONING": "cheap"}, [], ["PROVISIONING", "cheap", "spot reserved on-demand"]),
            ({"POLL_SECONDS": "soon"}, [], ["POLL_SECONDS", "soon", "whole number"]),
            ({"MAX_FAILURES": "0"}, [], ["MAX_FAILURES", "'0'", "whole number"]),
            ({"TPU_NAME": "My TPU"}, [], ["TPU_NAME", "My TPU"]),
            ({}, ["ZOEN=x"], [f"line {len(FILLED) + 1}", "ZOEN"]),
            ({}, ["ZONE=x"], [f"line {len(FILLED) + 1}", "ZONE", "twice", "first in line 4"]),
            ({}, ["export ZONE=x"], [f"line {len(FILLED) + 1}", "NAME=value"]),
        ],
    )
    def test_wrong_ones_are_named(self, bench, changes, lines, words):
        bench.settings(*lines, **changes)
        result = bench.run("tpu_vm.sh", "status", check=False)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        for word in words:
            assert word in result.stderr
        assert bench.calls() == []

    @pytest.mark.parametrize(
        ("changes", "lines", "arguments", "named"),
        [
            ({"WORKDIR": "gs://BUCKET/runs/helen"}, [], [], "line 2: WORKDIR"),
            ({}, ["ARGUMENT=--config.data.root=gs://BUCKET/data"], [],
             f"line {len(FILLED) + 1}: ARGUMENT"),
            ({}, [], ["--workdir=gs://BUCKET/a"], "the argument --workdir=gs://BUCKET/a"),
        ],
    )  # fmt: skip
    def test_a_placeholder_is_refused(self, bench, changes, lines, arguments, named):
        bench.settings(*lines, **changes)
        result = bench.run("tpu_vm.sh", "start", "--", *arguments, check=False)
        assert result.returncode == 1
        assert f"{named} still says gs://BUCKET" in result.stderr
        assert bench.calls() == []

    def test_the_shipped_file_has_no_placeholder(self, bench):
        shutil.copy(LAUNCH / "settings.env", bench.folder / "my settings.env")
        result = bench.run("local.sh", "1", check=False)
        assert "lacks WORKDIR:" in result.stderr  # all else is in order

    def test_a_missing_file_is_named(self, bench):
        (bench.folder / "my settings.env").unlink()
        result = bench.run("tpu_vm.sh", "status", check=False)
        assert result.returncode == 1
        assert "my settings.env" in result.stderr

    def test_comments_blanks_quotes_and_line_ends(self, bench):
        (bench.folder / "my settings.env").write_text(
            "# comment\n\n  \t\nCONFIG='configs/a b.py'\r\nWORKDIR=\"/w\"\nARGUMENT='\nARGUMENT=\"x"
        )
        result = bench.run("local.sh", "--dry_run", "--port=1", "1")
        command = shlex.split(result.stdout)
        assert command[6:-3] == ["dmlcsr_jax.main", "--config=configs/a b.py", "--workdir=/w", "'",
                                 '"x']  # fmt: skip

    def test_the_shipped_file_has_every_setting(self):
        text = (LAUNCH / "settings.sh").read_text()
        known = re.search(r"setting_names=\(([^)]*)\)", text)[1].split()
        shipped = re.findall(r"^([A-Z_]+)=", (LAUNCH / "settings.env").read_text(), re.M)
        assert sorted(known) == sorted(set(shipped) - {"ARGUMENT"})
        scripts = "".join(
            path.read_text() for path in LAUNCH.glob("*.sh") if path.name != "settings.sh"
        )
        scripts += (LAUNCH / "slurm.sbatch").read_text()
        for name in known:
            assert re.search(rf"\b{name}\b", scripts), f"{name} is read by no script"
