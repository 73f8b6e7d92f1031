"""What it saves that the edge branch is dropped after training.

    python -m benchmarks.decoupling --image_size=385

from the repository's root. Three networks predict in turns: without edges, as they are deployed;
with the edge branch run beside, which changes no label; and with its logits fed back into the
parsing head (`model.edge_feedback`). Parameters, FLOPs and memory are the compiled programs'; the
time is the median of the ratios to the first in the same turn. `--repeats=0` leaves it out.
`--encoders=efficientnet_lite1,efficientnet_lite2` compares the first with the same network with
other encoders instead.
"""

import argparse
import dataclasses
import functools
import platform
import runpy
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tabulate

from dmlcsr_jax.checkpoints.model import for_inference
from dmlcsr_jax.models import build_model, initial_variables
from dmlcsr_jax.models.metadata import Metadata

# Whether the edge branch runs beside, and whether it is fed back.
NETWORKS = {
    "without edges": (False, False),
    "with edges": (True, False),
    "fed back": (False, True),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="configs/celebamask_hq_small.py", help="file")
    parser.add_argument("--encoders", help="names, separated by commas")
    parser.add_argument("--image_size", type=int, help="side of the input (the config's)")
    parser.add_argument("--repeats", type=int, default=9, help="turns")
    args = parser.parse_args(argv)
    config = runpy.run_path(args.config)["get_config"]()
    config.data.image_size = args.image_size or config.data.image_size
    metadata = Metadata.from_config(config)
    images = jnp.zeros((1, metadata.image_size, metadata.image_size, 3))
    networks = {
        name: (dataclasses.replace(metadata, edge_feedback=feedback), edges)
        for name, (edges, feedback) in NETWORKS.items()
    }
    if args.encoders:
        names = [metadata.encoder, *args.encoders.split(",")]
        networks = {name: (dataclasses.replace(metadata, encoder=name), False) for name in names}
    rows, runs = [], []
    for described, edges in networks.values():
        model = build_model(described)
        variables = initial_variables(model, 0, metadata.image_size)
        if not edges:
            variables = for_inference(described, variables)
        predict = functools.partial(model.apply, train=False, edges=edges)
        compiled = jax.jit(predict).lower(variables, images).compile()
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        flops = compiled.cost_analysis()["flops"]
        memory = compiled.memory_analysis().temp_size_in_bytes
        rows.append([count / 1e6, flops / 1e9, memory / 2**20])
        runs.append(functools.partial(compiled, variables, images))
    ratios = [_seconds(runs) for _ in range(args.repeats)]
    if ratios:
        times = np.median([turn / turn[0] for turn in ratios], axis=0)
        rows = [[*row, ratio] for row, ratio in zip(rows, times, strict=True)]
    headers = ["network", "M parameters", "GFLOP", "MiB between", "time, ratio"]
    table = [[name, *row] for name, row in zip(networks, rows, strict=True)]
    print(f"{metadata.encoder}, {metadata.image_size} pixels, one image, float32, ", end="")
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, {platform.machine()}")
    print(tabulate.tabulate(table, headers[: 1 + len(rows[0])], floatfmt=".3f"))


def _seconds(runs) -> np.ndarray:
    seconds = []
    for run in runs:
        started = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - started)
    return np.array(seconds)


if __name__ == "__main__":
    main()
