"""The RayJob: its command is one that the command line takes, and fits the workers."""

import shlex

import yaml
from launch_bench import LAUNCH

from dmlcsr_jax.predict.arguments import parse_arguments
from dmlcsr_jax.predict.ray_cluster import actor_resources, num_actors


def test_the_command_and_its_actors_fit_the_workers():
    job = yaml.safe_load((LAUNCH / "ray_job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    python, m, module, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert (python, m, module) == ("python", "-m", "dmlcsr_jax.predict")
    options = parse_arguments(arguments, "")
    assert options.ray == ""
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    [group] = cluster["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    requests, limits = (container["resources"][kind] for kind in ("requests", "limits"))
    assert requests == limits
    node = {"CPU": float(requests["cpu"]), "TPU": float(requests["google.com/tpu"])}
    actor = actor_resources(options.ray_actor, [{}, node])
    assert actor == {"TPU": 4, "CPU": 80}
    workers = group["maxReplicas"] * [node]
    assert num_actors(options.ray_actors, actor, []) == num_actors(None, actor, workers) == 2
