"""Cloud TPU: what each subcommand asks of gcloud, to the letter."""

import shutil
import subprocess

import pytest
from launch_bench import (
    CREATE,
    LAUNCH,
    LIST,
    NASTY,
    QUEUED,
    START,
    STATE,
    TRAIN,
    UNPACK,
    VM,
    WHERE,
    WORKER,
    provision,
    ssh,
)


class TestCalls:
    @pytest.mark.parametrize(
        ("provisioning", "flags"),
        [("spot", ["--spot"]), ("reserved", ["--reserved"]), ("on-demand", [])],
    )
    def test_tpu_create(self, bench, provisioning, flags):
        bench.settings(PROVISIONING=provisioning)
        bench.answer({"list": ["", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]})
        bench.run("tpu_vm.sh", "create")
        assert bench.calls() == [LIST, [*CREATE, *flags], LIST, LIST, LIST]

    def test_tpu_create_with_the_optional_settings(self, bench):
        bench.settings("SERVICE_ACCOUNT=a@b.c", "NETWORK=net", "SUBNETWORK=sub")
        bench.answer({"list": ["", "ACTIVE"]})
        bench.run("tpu_vm.sh", "create")
        options = ["--spot", "--service-account=a@b.c", "--network=net", "--subnetwork=sub"]
        assert bench.calls() == [LIST, [*CREATE, *options], LIST]

    def test_tpu_create_refuses_a_second_slice_of_that_name(self, bench):
        bench.answer({"list": ["ACTIVE"]})
        result = bench.run("tpu_vm.sh", "create", check=False)
        assert result.returncode == 1
        assert "helen-1 exists already and is ACTIVE" in result.stderr
        assert bench.calls() == [LIST]

    def test_tpu_create_says_why_a_request_failed(self, bench):
        bench.answer({"list": ["", "FAILED"], "describe": ["no quota for v5litepod"]})
        result = bench.run("tpu_vm.sh", "create", check=False)
        assert result.returncode == 1
        assert "no quota for v5litepod" in result.stderr
        assert "helen-1 has become FAILED" in result.stderr

    def test_tpu_status(self, bench):
        bench.answer({"state.state": ["ACTIVE"], "worker.sh": ["running\nrunning"]})
        assert "running" in bench.run("tpu_vm.sh", "status").stdout
        overview = [[*what, "list", *WHERE, "--filter=name~/helen-1$"] for what in (QUEUED, VM)]
        assert bench.calls() == [*overview, LIST, STATE]

    def test_tpu_provision_sends_the_commit(self, bench):
        (bench.root / "launch" / "settings.env").write_text("MAX_FAILURES=9\n")
        result = bench.run("tpu_vm.sh", "provision")
        assert "uncommitted changes are not sent" in result.stderr
        assert bench.calls() == provision(bench)
        # What the machine makes of it, with the archive that was made.
        shutil.copy(bench.root / "build" / "checkout.tgz", bench.home / "dmlcsr_jax.tgz")
        unpack = UNPACK.partition(" && bash")[0]
        subprocess.run(["bash", "-c", unpack], cwd=bench.home, check=True)
        sent = bench.home / "dmlcsr_jax" / "launch"
        assert (sent / "settings.env").read_bytes() == (LAUNCH / "settings.env").read_bytes()

    def test_tpu_start_logs_and_stop(self, bench):
        bench.run("tpu_vm.sh", "start")
        bench.run("tpu_vm.sh", "logs")
        bench.run("tpu_vm.sh", "logs", "3")
        bench.run("tpu_vm.sh", "stop")
        tail = "tail -n 200 -F dmlcsr_jax_run/log"
        expected = [START, ssh(tail, 0), ssh(tail, 3), ssh(f"{WORKER} stop")]
        assert bench.calls() == expected

    def test_tpu_create_asks_again_where_the_cloud_does_not_answer(self, bench):
        bench.answer({"list": ["", [1, ""], "ACTIVE"]})
        assert "no answer" in bench.run("tpu_vm.sh", "create").stderr
        assert bench.calls() == [LIST, [*CREATE, "--spot"], LIST, LIST]


class TestQuoting:
    def test_through_ssh_to_the_process(self, bench):
        bench.settings(*(f"ARGUMENT={value}" for value in NASTY))
        bench.run("tpu_vm.sh", "start", "--", *NASTY, "two\nlines")
        [call] = bench.calls()
        # ssh gives the command to the login shell of the machine, in the home folder.
        worker = bench.home / "dmlcsr_jax" / "launch" / "worker.sh"
        worker.parent.mkdir(parents=True)
        worker.write_text('printf "%s\\0" "$@"')
        command = call[-1].removeprefix("--command=")
        for shell in ("bash", "sh"):
            said = subprocess.run(
                [shell, "-c", command], cwd=bench.home, capture_output=True, text=True, check=True
            ).stdout
            assert said.split("\0")[:-1] == ["start", *TRAIN, *NASTY, *NASTY, "two\nlines"]
