"""launch/README.md."""

import configparser
import re
import subprocess

import pytest
from launch_bench import LAUNCH, ROOT, SUBCOMMANDS, TRAIN


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

    def test_step_2_gives_settings_that_step_3_takes(self, bench):
        text = (LAUNCH / "README.md").read_text()
        copy, block = re.search(
            r"\*\*Settings\.\*\* `(cp [^`]+)`, then change these lines[^*]*?\n\n((?: {7}.+\n)+)",
            text,
        ).groups()
        subprocess.run(copy, shell=True, cwd=bench.root, check=True)
        path = bench.root / "helen.env"
        settings = path.read_text().splitlines()
        wanted = [line.strip() for line in block.splitlines()]
        for line in wanted:
            # An argument is there as an example, behind a #, or as it is wanted.
            is_argument = line.startswith("ARGUMENT=")
            name = f"(# )?{re.escape(line)}$" if is_argument else line.partition("=")[0] + "="
            [place] = [i for i, old in enumerate(settings) if re.match(name, old)]
            settings[place] = line
        filled = "\n".join(settings).replace("gs://BUCKET", "gs://faces")
        path.write_text(filled.replace("=...", "=my-project"))
        command = re.search(r"^ +(launch/tpu_vm\.sh .*--dry_run run)$", text, re.M)[1]
        result = subprocess.run(
            f"bash {command}", shell=True, cwd=bench.root, env=bench.env,
            capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        arguments = " ".join([
            *TRAIN, "--config.data.root=gs://faces/data/helen", "--config.model.dtype=bfloat16",
        ])  # fmt: skip
        assert f"worker.sh start {arguments}'" in result.stdout
        assert "--project=my-project --zone=us-west4-a" in result.stdout

    def test_it_installs_from_the_checkout_or_a_wheel(self):
        text = (LAUNCH / "README.md").read_text()
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        installed = re.findall(r'pip install (?:--editable )?"([^"]+)\[([\w,]+)\]"', text)
        assert len(installed) == 3
        for what, extras in installed:
            assert what == "." or what.endswith(".whl")
            assert set(extras.split(",")) <= set(config["options.extras_require"])
