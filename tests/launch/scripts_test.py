"""What holds for all launch scripts."""

import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest
from launch_bench import CLUSTER, DELETE, DELETE_JOB, FAKE, LAUNCH, NASTY, SUBCOMMANDS, executable

SCRIPTS = ("tpu_vm.sh", "gke.sh", "slurm.sh", "local.sh")
TEARDOWNS = {
    "tpu_vm.sh": [DELETE],
    "gke.sh": [
        DELETE_JOB,
        [
            "gcloud", "container", "node-pools", "delete", "slice", *CLUSTER, "--cluster=faces",
            "--quiet",
        ],
    ],
}  # fmt: skip


class TestTeardown:
    @pytest.mark.parametrize("script", TEARDOWNS)
    @pytest.mark.parametrize("answer", ["y\n", "YES\n"])
    def test_asks_and_does(self, bench, script, answer):
        result = bench.run(script, "teardown", stdin=answer)
        assert "[y/N]" in result.stderr
        assert bench.calls() == TEARDOWNS[script]

    @pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh", "slurm.sh"])
    @pytest.mark.parametrize("answer", ["", "\n", "n\n", "yesterday\n"])
    def test_anything_but_yes_is_no(self, bench, script, answer):
        result = bench.run(script, "teardown", stdin=answer, check=False)
        assert result.returncode == 1
        assert "nothing was done" in result.stderr
        assert bench.calls() == []

    @pytest.mark.parametrize("script", TEARDOWNS)
    def test_yes_answers(self, bench, script):
        assert "[y/N]" not in bench.run(script, "--yes", "teardown").stderr
        assert bench.calls() == TEARDOWNS[script]

    def test_the_node_pool_goes_where_the_job_cannot_be_deleted(self, bench):
        bench.answer({"delete jobset": [[1, ""]]})
        result = bench.run("gke.sh", "--yes", "teardown")
        assert "the job helen was not deleted" in result.stderr
        assert bench.calls() == TEARDOWNS["gke.sh"]


class TestDryRun:
    @pytest.mark.parametrize(
        ("script", "word"), [*SUBCOMMANDS, ("gke.sh", "show"), ("local.sh", "2")]
    )
    def test_runs_nothing(self, bench, script, word):
        executable(bench.bin / "python", FAKE)
        files = sorted(bench.folder.rglob("*"))
        result = bench.run(script, "--dry_run", word)
        assert result.stdout
        assert bench.calls() == []
        assert sorted(bench.folder.rglob("*")) == files

    @pytest.mark.parametrize(
        ("script", "word"),
        sorted({*SUBCOMMANDS} - {("tpu_vm.sh", "watch"), ("slurm.sh", "logs")}),
    )
    def test_prints_what_would_run(self, bench, script, word):
        arguments = [word, "--", *NASTY]
        shown = bench.run(script, "--dry_run", *arguments).stdout
        if script == "slurm.sh":
            shown = shown.partition("# the job runs:")[0]
        commands = [shlex.split(line) for line in shown.splitlines() if line[0] != "#"]
        bench.answer({"list": ["", "ACTIVE"] if word in ("create", "run") else ["ACTIVE"],
                      "describe": ["READY"], "state;": ["absent", "finished"]})  # fmt: skip
        bench.run(script, "--yes", *arguments)
        made = bench.calls()
        if word in ("create", "run") and script == "tpu_vm.sh":
            del made[0]  # the look whether the slice exists already
        if word == "run":  # the watch is shown with what it does in an emergency
            begin = shown.index("# where the slice is lost:")
            calm = [*shown[:begin].splitlines(), shown.splitlines()[-1]]
            commands = [shlex.split(line) for line in calm if line[0] != "#"]
            del made[-4:-1]  # the second look
        commands = [words for words in commands if words[0] not in ("mkdir", "git", "cp")]
        assert commands == made


class TestScripts:
    @pytest.mark.parametrize("script", [*SCRIPTS, "worker.sh", "slurm.sbatch"])
    def test_help(self, bench, script):
        result = subprocess.run(
            ["bash", f"launch/{script}", "--help"], cwd=bench.root, capture_output=True, text=True
        )
        assert result.returncode == 0
        assert result.stdout.startswith("usage: ")

    @pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh", "slurm.sh"])
    @pytest.mark.parametrize("words", [[], ["destroy"], ["--force", "status"]])
    def test_unknown_words_are_refused(self, bench, script, words):
        result = bench.run(script, *words, check=False)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
        assert bench.calls() == []

    def test_shellcheck(self):
        beside = pathlib.Path(sys.executable).with_name("shellcheck")
        program = str(beside) if beside.exists() else shutil.which("shellcheck")
        if program is None:
            pytest.skip("shellcheck is not installed (the test extra brings it)")
        scripts = [*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"]
        result = subprocess.run(
            [program, "--external-sources", *scripts], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout
