"""Google Kubernetes Engine: the calls, and the manifest."""

import configparser
import json
import re

import pytest
import yaml
from launch_bench import CLUSTER, DELETE_JOB, FILLED, KUBECTL, LAUNCH, NASTY, ROOT, TRAIN


class TestCalls:
    def test_gke(self, bench):
        for words in (
            ["credentials"], ["image"], ["create"], ["start"], ["status"], ["logs", "2"], ["stop"],
        ):  # fmt: skip
            bench.run("gke.sh", *words)
        image = FILLED["IMAGE"]
        labels = "jobset.sigs.k8s.io/jobset-name=helen"
        assert bench.calls() == [
            ["gcloud", "container", "clusters", "get-credentials", "faces", *CLUSTER],
            [
                "docker", "build", "--platform=linux/amd64",
                f"--file={bench.root}/launch/Dockerfile", f"--tag={image}", str(bench.root),
            ],
            ["docker", "push", image],
            [
                "gcloud", "container", "node-pools", "create", "slice", *CLUSTER,
                "--cluster=faces", "--node-locations=us-east5-b",
                "--machine-type=ct6e-standard-4t", "--num-nodes=4", "--spot",
                "--tpu-topology=4x4",
            ],
            [*KUBECTL, "apply", f"--filename={bench.root}/build/helen.yaml"],
            [*KUBECTL, "get", "jobset", "helen"],
            [*KUBECTL, "get", "pods", f"--selector={labels}", "--output=wide"],
            [
                *KUBECTL, "logs", "--follow", "--tail=200",
                f"--selector={labels},batch.kubernetes.io/job-completion-index=2",
            ],
            DELETE_JOB,
        ]  # fmt: skip

    def test_the_image_gets_what_installing_and_running_need(self):
        ignored, *let_in = (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines()
        assert ignored == "*"
        copied = {line[1:] for line in let_in if line[0] == "!"}
        assert all((ROOT / name).exists() for name in copied)
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        readme = config["metadata"]["long_description"].removeprefix("file: ")
        files = {readme, config["metadata"]["license_files"], "setup.cfg", "pyproject.toml"}
        files.add("launch/requirements.txt")
        assert copied == {*files, "dmlcsr_jax", FILLED["CONFIG"].partition("/")[0]}

    def test_the_image_is_an_ordinary_users_of_what_is_pinned(self):
        lines = (LAUNCH / "Dockerfile").read_text().splitlines()
        [base] = [line for line in lines if line.startswith("FROM ")]
        assert re.fullmatch(r"FROM python:3\.12-slim@sha256:[0-9a-f]{64}", base)
        installs = [line for line in lines if "pip install" in line]
        assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
        assert lines[-1] == "USER 1000"

    def test_gke_takes_no_topology_for_a_single_host(self, bench):
        bench.settings(GKE_HOSTS="1", GKE_TOPOLOGY="2x2")
        bench.run("gke.sh", "create")
        [call] = bench.calls()
        assert call[-2:] == ["--num-nodes=1", "--spot"]
        assert "topology" not in " ".join(call)

    @pytest.mark.parametrize(
        ("reservation", "flags"),
        [
            ("", ["--reservation-affinity=any"]),
            ("faces", ["--reservation-affinity=specific", "--reservation=faces"]),
        ],
    )
    def test_gke_reservations(self, bench, reservation, flags):
        bench.settings(PROVISIONING="reserved", GKE_RESERVATION=reservation)
        bench.run("gke.sh", "create")
        [call] = bench.calls()
        assert [word for word in call if word.startswith("--reservation")] == flags
        assert "--spot" not in call

    def test_through_kubernetes_to_the_process(self, bench):
        bench.settings(*(f"ARGUMENT={value}" for value in NASTY))
        control = "two\nlines\r\r\nof\t\x01\x1b\x7f\x85\u2028\u2029 & \\r"
        manifest = yaml.safe_load(bench.run("gke.sh", "show", "--", control).stdout)
        [container] = _pod(manifest)["containers"]
        # Kubernetes reads $$ as $, and replaces $(NAME) where NAME is in the environment.
        arguments = [
            re.sub(r"\$\$|\$\((\w+)\)", lambda m: "$" if m[0] == "$$" else f"<{m[1]}>", text)
            for text in container["args"]
        ]
        assert arguments == [*TRAIN, *NASTY, control]

    def test_a_word_between_at_signs_in_a_setting_is_no_placeholder(self, bench):
        strange = {
            "GKE_SERVICE_ACCOUNT": "a@IMAGE@b@ARGUMENTS@",
            "IMAGE": "i@NODE_SELECTOR@@GKE_JOB@",
        }
        bench.settings(**strange)
        pod = _pod(yaml.safe_load(bench.run("gke.sh", "show").stdout))
        assert pod["serviceAccountName"] == strange["GKE_SERVICE_ACCOUNT"]
        assert pod["containers"][0]["image"] == strange["IMAGE"]


def _pod(manifest) -> dict:
    [job] = manifest["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


class TestManifest:
    def test_one_pod_for_each_host(self, bench):
        manifest = yaml.safe_load(bench.run("gke.sh", "show").stdout)
        assert manifest["metadata"]["name"] == "helen"
        assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 2
        job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
        assert (job["completions"], job["parallelism"], job["backoffLimit"]) == (4, 4, 0)
        pod = _pod(manifest)
        assert pod["serviceAccountName"] == "trainer"
        assert pod["nodeSelector"] == {
            "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
            "cloud.google.com/gke-tpu-topology": "4x4",
            "cloud.google.com/gke-spot": "true",
        }
        [container] = pod["containers"]
        assert container["command"] == ["python", "-m", "dmlcsr_jax.main", "--distributed"]
        assert pod["shareProcessNamespace"]  # else SIGTERM is lost until JAX listens
        assert container["image"] == FILLED["IMAGE"]
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
        }
        assert container["resources"]["limits"] == {"google.com/tpu": 4}
        [mount] = container["volumeMounts"]
        [volume] = pod["volumes"]
        assert mount == {"name": volume["name"], "mountPath": "/dev/shm"}
        assert volume["emptyDir"] == {"medium": "Memory"}
        assert "@" not in json.dumps(manifest)

    def test_a_run_that_a_sigterm_ended_is_no_failure(self, bench):
        manifest = yaml.safe_load(bench.run("gke.sh", "show").stdout)
        [rule] = manifest["spec"]["failurePolicy"]["rules"]
        assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
        assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
        job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
        _, exit_codes = job["podFailurePolicy"]["rules"]
        assert exit_codes == {
            "action": "FailJob",
            "onExitCodes": {"containerName": "train", "operator": "In", "values": [143]},
        }
        [container] = _pod(manifest)["containers"]
        assert container["name"] == "train"

    def test_on_demand_selects_no_spot_nodes(self, bench):
        bench.settings(PROVISIONING="on-demand")
        manifest = yaml.safe_load(bench.run("gke.sh", "show").stdout)
        assert "cloud.google.com/gke-spot" not in _pod(manifest)["nodeSelector"]

    def test_start_writes_what_show_shows(self, bench):
        bench.run("gke.sh", "start")
        shown = bench.run("gke.sh", "show").stdout
        assert (bench.root / "build" / "helen.yaml").read_text() == shown
